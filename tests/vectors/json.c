#include "tests/vectors/json.h"

#include <string.h>

static void quote(json *j, const char *text)
{
    fputc('"', j->file);
    for (; *text != 0; text++) {
        if (strchr("\"\\", *text) != NULL)
            fputc('\\', j->file);
        fputc(*text, j->file);
    }
    fputc('"', j->file);
}

static void begin(json *j, const char *key)
{
    if (j->depth > 0)
        fprintf(j->file, "%s\n%*s", j->follows ? "," : "", 2 * j->depth, "");
    j->follows = true;
    if (key == NULL)
        return;
    quote(j, key);
    fputs(": ", j->file);
}

void json_open(json *j, const char *key, char bracket)
{
    begin(j, key);
    fputc(bracket, j->file);
    j->depth++;
    j->follows = false;
}

void json_close(json *j, char bracket)
{
    j->depth--;
    fprintf(j->file, "\n%*s%c", 2 * j->depth, "", bracket);
    j->follows = true;
    if (j->depth == 0)
        fputc('\n', j->file);
}

void json_text(json *j, const char *key, const char *text)
{
    begin(j, key);
    quote(j, text);
}

void json_hex(json *j, const char *key, const uint8_t *p, size_t n)
{
    begin(j, key);
    fputc('"', j->file);
    for (size_t i = 0; i < n; i++)
        fprintf(j->file, "%02x", p[i]);
    fputc('"', j->file);
}

void json_number(json *j, const char *key, uint64_t number)
{
    begin(j, key);
    fprintf(j->file, "%llu", (unsigned long long)number);
}

void json_bool(json *j, const char *key, bool value)
{
    begin(j, key);
    fputs(value ? "true" : "false", j->file);
}
