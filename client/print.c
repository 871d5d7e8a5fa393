#include "client/print.h"

#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "envelope/text.h"

#define LAST_SECOND 253402300799ULL /* 9999-12-31T23:59:59Z: RFC 3339 has years of four digits */

/* U+0080 to U+009F in UTF-8. */
static bool is_c1(const uint8_t *p, size_t n)
{
    return n >= 2 && p[0] == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0;
}

/* U+2028 to U+202E, U+2066 to U+2069: they end lines, or turn what follows around. */
static bool is_layout(const uint8_t *p, size_t n)
{
    if (n < 3 || p[0] != 0xe2)
        return false;
    return (p[1] == 0x80 && p[2] >= 0xa8 && p[2] <= 0xae) || (p[1] == 0x81 && p[2] >= 0xa6 && p[2] <= 0xa9);
}

size_t unprintable(const uint8_t *p, size_t n, bool utf8)
{
    if (p[0] < 0x20 || p[0] == 0x7f || (p[0] >= 0x80 && !utf8))
        return 1;
    if (is_c1(p, n))
        return 2;
    return is_layout(p, n) ? 3 : 0;
}

void put_escaped(FILE *out, const void *text, size_t n)
{
    const uint8_t *p = text;
    bool utf8 = pep_utf8_valid(p, n);
    for (size_t i = 0; i < n;) {
        size_t escaped = unprintable(p + i, n - i, utf8);
        if (escaped == 0)
            putc(p[i++], out);
        for (; escaped > 0; escaped--)
            fprintf(out, "\\x%02x", p[i++]);
    }
}

static bool unfinished; /* stderr stands in a line that tells a progress */

void tell_progress(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    putc('\r', stderr);
    vfprintf(stderr, format, args);
    fflush(stderr);
    va_end(args);
    unfinished = true;
}

void end_progress(void)
{
    if (unfinished)
        putc('\n', stderr);
    unfinished = false;
}

__attribute__((format(printf, 2, 0))) static void say(const char *who, const char *format, va_list args)
{
    char *line = NULL;
    int n = vasprintf(&line, format, args);
    end_progress();
    fprintf(stderr, "%s: ", who);
    if (n >= 0)
        put_escaped(stderr, line, (size_t)n);
    else
        fputs("out of memory", stderr);
    putc('\n', stderr);
    free(line);
}

int fail(int code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say("pep", format, args);
    va_end(args);
    return code;
}

void warn(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say("pep", format, args);
    va_end(args);
}

void warn_loudly(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say("WARNING", format, args);
    va_end(args);
}

int exit_code(pep_reason reason)
{
    if (reason == PEP_OK)
        return DONE;
    if (reason == PEP_TRY_LATER || reason == PEP_STORE_FAILED)
        return OUT_OF_REACH;
    if (reason >= PEP_BAD_COMMAND)
        return REFUSED;
    if (reason < PEP_BAD_ARGUMENT || reason == PEP_EXISTS || reason == PEP_SEQ_AHEAD)
        return REFUSED;
    return reason == PEP_BAD_ARGUMENT ? WRONG_USAGE : OUT_OF_REACH;
}

int fail_reason(pep_reason reason, const char *what)
{
    return fail(exit_code(reason), "%s: %s (%s)", what, pep_reason_name(reason), pep_reason_text(reason));
}

int fail_error(pep_reason reason, const pep_error *error)
{
    return fail(exit_code(reason), "%s", error->text);
}

const char *hex_kid(char out[HEX_KID_BYTES], const uint8_t kid[PEP_KID_BYTES])
{
    return sodium_bin2hex(out, HEX_KID_BYTES, kid, PEP_KID_BYTES);
}

const char *time_s(char out[TIME_BYTES], uint64_t s)
{
    struct tm tm;
    time_t t = (time_t)s;
    if (s > LAST_SECOND || gmtime_r(&t, &tm) == NULL || strftime(out, TIME_BYTES, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
        (void)snprintf(out, TIME_BYTES, "%" PRIu64, s);
    return out;
}

const char *time_us(char out[TIME_BYTES], uint64_t us)
{
    (void)time_s(out, us / 1000000);
    char *z = strchr(out, 'Z');
    if (z != NULL)
        (void)snprintf(z, TIME_BYTES - (size_t)(z - out), ".%06uZ", (unsigned)(us % 1000000));
    return out;
}

int finish_output(void)
{
    if (fflush(stdout) == 0 && ferror(stdout) == 0)
        return DONE;
    return fail(OUT_OF_REACH, "cannot write to standard output: %s", strerror(errno));
}

/* cJSON's constructors fail only where memory ends; then a field is missing, and json_print must not print the rest. */
static bool incomplete;

static void note(const cJSON *item)
{
    incomplete = incomplete || item == NULL;
}

cJSON *json_object(cJSON *parent, const char *name)
{
    cJSON *object = parent != NULL ? cJSON_AddObjectToObject(parent, name) : cJSON_CreateObject();
    note(object);
    return object;
}

cJSON *json_array(cJSON *parent, const char *name)
{
    cJSON *array = cJSON_AddArrayToObject(parent, name);
    note(array);
    return array;
}

void json_append(cJSON *array, const char *text)
{
    incomplete = incomplete || !cJSON_AddItemToArray(array, cJSON_CreateString(text));
}

void json_text(cJSON *object, const char *name, const char *text)
{
    note(cJSON_AddStringToObject(object, name, text));
}

void json_bool(cJSON *object, const char *name, bool value)
{
    note(cJSON_AddBoolToObject(object, name, value));
}

void json_unsigned(cJSON *object, const char *name, uint64_t value)
{
    char text[24];
    (void)snprintf(text, sizeof(text), "%" PRIu64, value);
    note(cJSON_AddRawToObject(object, name, text));
}

void json_signed(cJSON *object, const char *name, int64_t value)
{
    char text[24];
    (void)snprintf(text, sizeof(text), "%" PRId64, value);
    note(cJSON_AddRawToObject(object, name, text));
}

void json_kid(cJSON *object, const char *name, const uint8_t kid[PEP_KID_BYTES])
{
    char hex[HEX_KID_BYTES];
    json_text(object, name, hex_kid(hex, kid));
}

static char *base64(pep_view bytes)
{
    size_t n = sodium_base64_ENCODED_LEN(bytes.n, sodium_base64_VARIANT_ORIGINAL);
    char *text = malloc(n);
    if (text != NULL)
        sodium_bin2base64(text, n, bytes.p, bytes.n, sodium_base64_VARIANT_ORIGINAL);
    return text;
}

void json_bytes(cJSON *object, const char *name, pep_view bytes)
{
    bool as_text = bytes.n == 0 || (pep_utf8_valid(bytes.p, bytes.n) && memchr(bytes.p, 0, bytes.n) == NULL);
    char key[PEP_FACTS_MAX + 16];
    (void)snprintf(key, sizeof(key), "%s%s", name, as_text ? "" : "_base64");
    char *text = as_text ? strndup(bytes.n > 0 ? (const char *)bytes.p : "", bytes.n) : base64(bytes);
    note(text != NULL ? cJSON_AddStringToObject(object, key, text) : NULL);
    free(text);
}

/* cJSON escapes what JSON demands. U+007F to U+009F it prints as they are, and terminals act on them. */
static void put_json(const char *json)
{
    size_t n = strlen(json);
    const uint8_t *p = (const uint8_t *)json;
    for (size_t i = 0; i < n; i++) {
        if (p[i] == 0x7f)
            fputs("\\u007f", stdout);
        else if (is_c1(p + i, n - i))
            printf("\\u%04x", p[++i]); /* the second byte is the code point */
        else
            putchar(p[i]);
    }
    putchar('\n');
}

char *json_take(cJSON *object)
{
    char *text = incomplete ? NULL : cJSON_PrintUnformatted(object);
    cJSON_Delete(object);
    if (text == NULL)
        fail(OUT_OF_REACH, "out of memory");
    return text;
}

int json_print(cJSON *object)
{
    char *text = json_take(object);
    if (text == NULL)
        return OUT_OF_REACH;
    put_json(text);
    cJSON_free(text);
    return finish_output();
}
