#include "ledger_ask.h"

#include <CUnit/CUnit.h>
#include <stdio.h>
#include <string.h>

sealed ledger_command(const asker *a, const speaker *by, const char *command)
{
    char json[PEP_COMMAND_JSON_MAX];
    snprintf(json, sizeof(json), "{\"commands\":[%s]}", command);
    return command_seal(a, &by->device, json);
}

cJSON *ledger_ask(asker *a, const speaker *by, const char *command)
{
    sealed e = ledger_command(a, by, command);
    return ask(a, e.bytes, e.n);
}

pep_reason ledger_reason(asker *a, const speaker *by, const char *command)
{
    return answer_reason(ledger_ask(a, by, command));
}

const cJSON *ledger_list(const cJSON *answer, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(answer_data(answer), name);
}

double number_in(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsNumber(item) ? item->valuedouble : -1;
}

const char *text_in(const cJSON *object, const char *name)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
    return text != NULL ? text : "";
}

long ledger_count(asker *a, const speaker *by, const char *conditions)
{
    char command[1024];
    snprintf(command, sizeof(command), "{\"command\":\"ledger.sum\"%s%s}", *conditions == '\0' ? "" : ",", conditions);
    cJSON *answer = ledger_ask(a, by, command);
    const cJSON *groups = ledger_list(answer, "groups");
    long count = groups == NULL ? -1 : cJSON_GetArraySize(groups) == 0 ? 0 : (long)number_in(groups->child, "count");
    cJSON_Delete(answer);
    return count;
}

long ledger_reaches(asker *a, const speaker *by, const char *conditions, long count)
{
    int64_t deadline = monotonic_ms() + patience_ms();
    long found;
    while ((found = ledger_count(a, by, conditions)) < count && remaining_ms(deadline) > 0)
        ;
    return found;
}

bool ledger_settles(asker *a, const speaker *admin)
{
    return ledger_reason(a, admin, "{\"command\":\"ledger.forget\",\"topic\":\"nothing/is/here\"}") == PEP_OK;
}
