#include "directory/json.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "envelope/text.h"

#define BASE64 sodium_base64_VARIANT_URLSAFE_NO_PADDING

/* ---- what cJSON would take, and we do not ---- */

typedef struct {
    const char *p;
    size_t n;
    size_t at;
    unsigned depth;
} scan;

/* Behind the backslash. A NUL would end the text for everybody who reads it as a C string. */
static bool scan_escape(scan *s)
{
    if (s->at >= s->n)
        return false;
    return s->p[s->at] != 'u' || s->n - s->at < 5 || memcmp(s->p + s->at, "u0000", 5) != 0;
}

static bool scan_string(scan *s)
{
    for (; s->at < s->n; s->at++) {
        unsigned char c = (unsigned char)s->p[s->at];
        if (c == '"')
            return true;
        if (c < 0x20)
            return false;
        if (c == '\\') {
            s->at++;
            if (!scan_escape(s))
                return false;
        }
    }
    return false;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool scan_outside(scan *s)
{
    char c = s->p[s->at++];
    switch (c) {
    case '"':
        if (!scan_string(s))
            return false;
        s->at++;
        return true;
    case '[':
    case '{':
        return ++s->depth <= JSON_DEPTH_MAX;
    case ']':
    case '}':
        return s->depth-- > 0;
    case '\0':
    case '-': /* no command has a number below 0 */
    case '.':
        return false;
    case 'e':
    case 'E':
        return !is_digit(s->at < 2 ? ' ' : s->p[s->at - 2]);
    default:
        return true;
    }
}

static bool scan_all(const char *p, size_t n)
{
    scan s = {.p = p, .n = n};
    while (s.at < n)
        if (!scan_outside(&s))
            return false;
    return s.depth == 0;
}

static bool keys_differ(const cJSON *object)
{
    unsigned count = 0;
    for (const cJSON *a = object->child; a != NULL; a = a->next) {
        if (++count > JSON_KEYS_MAX)
            return false;
        for (const cJSON *b = object->child; b != a; b = b->next)
            if (strcmp(a->string, b->string) == 0)
                return false;
    }
    return true;
}

static bool number_valid(const cJSON *item)
{
    double n = item->valuedouble;
    return n >= 0 && n <= (double)PEP_SEQ_MAX && (double)(uint64_t)n == n;
}

/* The depth is bounded by scan_all. */
static bool tree_valid(const cJSON *item) /* NOLINT(misc-no-recursion) */
{
    if (cJSON_IsNumber(item))
        return number_valid(item);
    if (cJSON_IsObject(item) && !keys_differ(item))
        return false;
    for (const cJSON *child = item->child; child != NULL; child = child->next)
        if (!tree_valid(child))
            return false;
    return true;
}

cJSON *json_parse(const uint8_t *p, size_t n)
{
    if (n == 0 || !pep_utf8_valid(p, n) || !scan_all((const char *)p, n))
        return NULL;
    char *copy = malloc(n + 1); /* cJSON looks for a NUL where nothing may follow */
    if (copy == NULL)
        return NULL;
    memcpy(copy, p, n);
    copy[n] = '\0';
    cJSON *root = cJSON_ParseWithLengthOpts(copy, n + 1, NULL, true);
    free(copy);
    if (root != NULL && tree_valid(root))
        return root;
    cJSON_Delete(root);
    return NULL;
}

/* ---- reading ---- */

const char *json_get_text(const cJSON *object, const char *name)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
}

bool json_get_kid(uint8_t kid[PEP_KID_BYTES], const char *text)
{
    static const char digits[] = "0123456789abcdef";
    size_t n = strlen(text);
    return n == (size_t)2 * PEP_KID_BYTES && strspn(text, digits) == n &&
           sodium_hex2bin(kid, PEP_KID_BYTES, text, n, NULL, NULL, NULL) == 0;
}

bool json_get_bytes(uint8_t *out, size_t *n, size_t cap, const char *text)
{
    const char *end = NULL;
    size_t text_n = strlen(text);
    return sodium_base642bin(out, cap, text, text_n, NULL, n, &end, BASE64) == 0 && end == text + text_n && *n > 0;
}

/* ---- writing ---- */

bool json_add_text(cJSON *object, const char *name, const char *text)
{
    return cJSON_AddStringToObject(object, name, text) != NULL;
}

bool json_add_number(cJSON *object, const char *name, uint64_t number)
{
    return cJSON_AddNumberToObject(object, name, (double)number) != NULL;
}

bool json_add_kid(cJSON *object, const char *name, const uint8_t kid[PEP_KID_BYTES])
{
    char hex[2 * PEP_KID_BYTES + 1];
    return json_add_text(object, name, sodium_bin2hex(hex, sizeof hex, kid, PEP_KID_BYTES));
}

cJSON *json_bytes_text(const uint8_t *p, size_t n)
{
    char base64[sodium_base64_ENCODED_LEN(PEP_ENTRY_BYTES_MAX, BASE64)];
    if (n > PEP_ENTRY_BYTES_MAX)
        return NULL;
    return cJSON_CreateString(sodium_bin2base64(base64, sizeof base64, p, n, BASE64));
}

bool json_add_bytes(cJSON *object, const char *name, const uint8_t *p, size_t n)
{
    cJSON *item = json_bytes_text(p, n);
    if (item != NULL && cJSON_AddItemToObject(object, name, item))
        return true;
    cJSON_Delete(item);
    return false;
}
