/*
 * What the tool prints of a ledger, whoever wrote it: its fields' JSON against cJSON, and texts as JSON, for a table,
 * for a spreadsheet and for gnuplot. And times, as people write them.
 */
#include "tests/fuzz/fuzz.h"

#include <cjson/cJSON.h>
#include <string.h>

#include "client/fields.h"
#include "client/gnuplot.h"
#include "client/sheet.h"
#include "client/times.h"
#include "envelope/text.h"

static const char *text; /* the input, which ends with it */
static fields parsed;

/* What `put` writes; to be freed. */
static char *written(void (*put)(FILE *out))
{
    char *out = NULL;
    size_t n = 0;
    FILE *memory = open_memstream(&out, &n);
    must(memory != NULL, "no memory");
    put(memory);
    must(fclose(memory) == 0 && strlen(out) == n, "no memory");
    return out;
}

/* No control character, also of U+0080 to U+009F, and nothing that ends a line or turns it around. */
static bool is_harmless(const char *out)
{
    for (const unsigned char *p = (const unsigned char *)out; *p != '\0'; p++) {
        bool c1 = p[0] == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0;
        bool layout = p[0] == 0xe2 && ((p[1] == 0x80 && p[2] >= 0xa8 && p[2] <= 0xae) ||
                                       (p[1] == 0x81 && p[2] >= 0xa6 && p[2] <= 0xa9));
        if (p[0] < 0x20 || p[0] == 0x7f || c1 || layout)
            return false;
    }
    return true;
}

/* ---- fields ---- */

static void put_json(FILE *out)
{
    fields_put_json(out, &parsed);
}

static void put_words(FILE *out)
{
    fields_put_words(out, &parsed);
}

static void check_member(const cJSON *item, const pep_fact *fact)
{
    bool same = cJSON_IsNumber(item) ? fact->type == PEP_FACT_INT && (double)fact->integer == item->valuedouble
                : cJSON_IsString(item)
                    ? fact->type == PEP_FACT_TEXT
                    : cJSON_IsBool(item) && fact->type == PEP_FACT_BOOL && (fact->integer != 0) == cJSON_IsTrue(item);
    invariant(same, "cJSON reads the same value");
}

static void check_fields(void)
{
    if (!fields_parse(&parsed, text))
        return;
    char *json = written(put_json);
    char *words = written(put_words);
    invariant(is_harmless(json) && is_harmless(words), "nothing of it acts on a terminal");
    cJSON *root = cJSON_Parse(json);
    invariant(root != NULL || strstr(json, "\\u0000") != NULL, "it is JSON to others as well");
    invariant(root == NULL || (size_t)cJSON_GetArraySize(root) == parsed.n, "with as many members");
    size_t i = 0;
    for (const cJSON *item = root != NULL ? root->child : NULL; item != NULL; item = item->next)
        check_member(item, &parsed.at[i++]);
    cJSON_Delete(root);
    if (strlen(json) <= FIELDS_JSON_MAX) { /* escapes may have made it longer */
        invariant(fields_parse(&parsed, json), "what was written can be read");
        char *again = written(put_json);
        invariant(strcmp(json, again) == 0, "and is the same then");
        free(again);
    }
    free(json);
    free(words);
}

/* ---- texts ---- */

static void put_text(FILE *out)
{
    put_quoted(out, (pep_view){(const uint8_t *)text, strlen(text)});
}

static void put_text_word(FILE *out)
{
    put_word(out, (pep_view){(const uint8_t *)text, strlen(text)});
}

static void put_text_csv(FILE *out)
{
    put_csv(out, text, strlen(text));
}

static void put_text_gnuplot(FILE *out)
{
    put_gnuplot_text(out, text, 40);
}

static void check_json(void)
{
    char *json = written(put_text);
    char *word = written(put_text_word);
    cJSON *item = cJSON_Parse(json);
    invariant(is_harmless(json) && is_harmless(word), "no text acts on a terminal");
    invariant(item != NULL && strcmp(item->valuestring, text) == 0, "JSON says what was said");
    invariant(word[0] == '"' ? strcmp(word, json) == 0 : strcmp(word, text) == 0, "a word is the text or its JSON");
    invariant(strpbrk(word, " =") == NULL || word[0] == '"', "no word is two");
    cJSON_Delete(item);
    free(json);
    free(word);
}

/* One cell: between its quotes each quote stands twice; and it begins with nothing that would be calculated. */
static void check_csv(void)
{
    char *csv = written(put_text_csv);
    size_t n = strlen(csv);
    invariant(is_harmless(csv), "no cell acts on a terminal");
    invariant(n >= 2 && csv[0] == '"' && csv[n - 1] == '"', "a cell stands in quotes");
    csv[n - 1] = '\0';
    for (const char *at = csv + 1; (at = strchr(at, '"')) != NULL; at += 2)
        invariant(at[1] == '"', "no quote ends a cell early");
    invariant(strchr("=+@", csv[1]) == NULL || csv[1] == '\0', "no cell is a formula");
    invariant(csv[1] != '-' || decimal_valid(csv + 1), "no cell is a formula but a number below 0");
    free(csv);
}

static void check_gnuplot(void)
{
    char *script = written(put_text_gnuplot);
    size_t n = strlen(script);
    invariant(n >= 2 && script[0] == '"' && script[n - 1] == '"', "a string stands in quotes");
    script[n - 1] = '\0';
    for (const char *p = script + 1; *p != '\0'; p++)
        if (*p == '\\') {
            invariant(strspn(p + 1, "01234567") == 3, "an escape is of three digits");
            p += 3;
        } else {
            invariant(strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz /-_.,:", *p) != NULL,
                      "nothing else means anything to gnuplot");
        }
    free(script);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char *copy = memcpy(fuzz_memory(n + 1), data, n);
    uint64_t us;
    text = copy;
    if (time_from_text(&us, text, 1795608000000000))
        invariant(us <= PEP_SEQ_MAX, "a time is one that a command can say");
    check_fields();
    check_csv();
    check_gnuplot();
    if (pep_utf8_valid((const uint8_t *)text, strlen(text)))
        check_json();
    free(copy);
    return 0;
}
