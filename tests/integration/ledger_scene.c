#include "ledger_scene.h"

#include "ledger_store.h"

const char SCENE_POLICY[] =
    "enroll = \"closed\"; budget = { rate = 0; }; admins = [ \"bob\" ];\n"
    "topics = (\n"
    "  { filter = \"r/#\"; signers = [ \"*\" ]; record = \"allow\"; },\n"
    "  { filter = \"brief/#\"; signers = [ \"*\" ]; record = \"allow\"; keep = \"1s\"; },\n"
    "  { filter = \"must/#\"; signers = [ \"*\" ]; record = \"allow\"; record_overflow = \"refuse\"; },\n"
    "  { filter = \"no/#\"; signers = [ \"*\" ]; record = \"deny\"; },\n"
    "  { filter = \"seen/#\"; signers = [ \"carol\" ]; mode = \"observe\"; record = \"allow\"; },\n"
    "  { filter = \"shown/#\"; signers = [ \"*\" ]; mode = \"observe\"; record = \"deny\"; } );\n";

void scene_meet(scene *x)
{
    asker_open(&x->a, (client_spec){.port = x->s.b.port, .id = "asker"});
    x->from = client_open((client_spec){.port = x->s.b.port, .id = "from", .version = MQTT_5});
}

void scene_part(scene *x)
{
    client_close(x->from);
    asker_close(&x->a);
}

void scene_set(scene *x, const char *option)
{
    stage_set(&x->s, SCENE_POLICY, ledger_conf(CONF_GUARDED, option));
    scene_meet(x);
}

void scene_strike(scene *x)
{
    scene_part(x);
    stage_strike(&x->s);
}

void scene_restart(scene *x, bool hard)
{
    scene_part(x);
    stage_restart(&x->s, hard);
    scene_meet(x);
}

sealed scene_message(const speaker *by, const char *topic, unsigned flags, int64_t n)
{
    const pep_fact facts[] = {fact_text("site", "north \"1\""), fact_int("n", n), fact_bool("on", n % 2 == 0)};
    return seal((seal_spec){.from = by, .topic = topic, .flags = flags, .facts = facts, .fact_n = 3});
}

bool scene_passes(const scene *x, const char *topic, const sealed *e, int qos, bool retain)
{
    return stage_passes(&x->s, x->from, topic, e, qos, retain);
}

bool scene_sends(const scene *x, const speaker *by, const char *topic, int64_t n)
{
    sealed e = scene_message(by, topic, 0, n);
    return scene_passes(x, topic, &e, 1, false);
}

bool scene_refuses(scene *x, const char *topic, const sealed *e, int qos, pep_reason reason)
{
    return stage_refuses(&x->s, x->from, topic, e, qos, false, reason);
}

bool scene_settles(scene *x)
{
    return ledger_settles(&x->a, &x->s.c.bob);
}

long scene_count(scene *x, const char *conditions)
{
    return ledger_count(&x->a, &x->s.c.bob, conditions);
}

pep_reason scene_asks(scene *x, const speaker *by, const char *command)
{
    return ledger_reason(&x->a, by, command);
}

long scene_counter(scene *x, const char *name, long value)
{
    int64_t deadline = monotonic_ms() + patience_ms();
    while (client_counter(x->s.to, name) != value && remaining_ms(deadline) > 0)
        (void)client_next_within(x->s.to, 10);
    return client_counter(x->s.to, name);
}
