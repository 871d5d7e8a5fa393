/* The control group: without the plugin every door is open, so what the other tests see refused, the plugin refused. */
#include "broker.h"
#include "client.h"
#include "tests/unit/unit.h"
#include "wire.h"

#include <string.h>

static broker b;

static void start(const char *acl)
{
    broker_make(&b);
    broker_write(&b, "acl", acl);
    broker_write(&b, "mosquitto.conf", CONF_BASE CONF_ACL);
    CU_ASSERT_TRUE(broker_start(&b));
}

static void publishes(mqtt_version version)
{
    client *to = client_open((client_spec){.port = b.port, .version = version});
    client *from = client_open((client_spec){.port = b.port, .version = version});
    client_subscribe(to, "#", 2);
    for (int qos = 0; qos <= 2; qos++) {
        CU_ASSERT_EQUAL(client_publish(from, "t/a", "plain", 5, qos, false), REASON_SUCCESS);
        CU_ASSERT_TRUE(client_gets(to, "t/a", "plain", 5));
    }
    CU_ASSERT_TRUE(client_fence(to, from));
    client_close(from);
    client_close(to);
}

static void every_qos_passes(void)
{
    start(ACL_ALL);
    publishes(MQTT_3);
    publishes(MQTT_5);
    broker_drop(&b);
}

/* What a denial looks like to clients, from Mosquitto's own ACL: the plugin's must look the same. */
static void denials_look_as_expected(void)
{
    start("topic readwrite fence\ntopic read #\n");
    client *from = client_open((client_spec){.port = b.port, .version = MQTT_5});
    client *from_3 = client_open((client_spec){.port = b.port, .version = MQTT_3});
    for (int qos = 0; qos <= 2; qos++) {
        int expected = qos == 0 ? REASON_SUCCESS : REASON_NOT_AUTHORIZED;
        CU_ASSERT_EQUAL(client_publish(from, "t/a", "plain", 5, qos, false), expected);
        CU_ASSERT_EQUAL(client_publish(from_3, "t/a", "plain", 5, qos, false), REASON_SUCCESS);
    }
    client_subscribe(from_3, "#", 0);
    CU_ASSERT_TRUE(client_fence(from_3, from));
    client_close(from);
    client_close(from_3);
    broker_drop(&b);
}

static void wills_are_sent(void)
{
    start(ACL_ALL);
    client *to = client_open((client_spec){.port = b.port});
    client_subscribe(to, "#", 0);
    for (mqtt_version version = MQTT_3; version <= MQTT_5; version++) {
        wire w = wire_open((wire_spec){
            .port = b.port, .version = version, .id = "w", .will_topic = "t/w", .will = "gone", .will_n = 4});
        wire_drop(&w);
        CU_ASSERT_TRUE(client_gets(to, "t/w", "gone", 4));
    }
    client_close(to);
    broker_drop(&b);
}

/* A packet sent again after a lost connection is delivered again at QoS 1, and once at QoS 2. */
static void redelivery_reaches_the_broker(void)
{
    start(ACL_ALL);
    client *to = client_open((client_spec){.port = b.port});
    client_subscribe(to, "#", 2);
    wire_spec spec = {.port = b.port, .id = "w", .keep_session = true};
    for (int qos = 1; qos <= 2; qos++) {
        wire_message m = {.topic = "t/a", .bytes = "x", .n = 1, .qos = qos, .mid = 7};
        wire w = wire_open(spec);
        wire_publish(&w, m);
        CU_ASSERT_TRUE(wire_answer(&w, qos == 1 ? WIRE_PUBACK : WIRE_PUBREC, 7, NULL));
        wire_drop(&w);
        w = wire_open(spec);
        m.dup = true;
        wire_publish(&w, m);
        CU_ASSERT_TRUE(wire_answer(&w, qos == 1 ? WIRE_PUBACK : WIRE_PUBREC, 7, NULL));
        if (qos == 2) {
            wire_release(&w, 7);
            CU_ASSERT_TRUE(wire_answer(&w, WIRE_PUBCOMP, 7, NULL));
        }
        wire_drop(&w);
    }
    for (int i = 0; i < 3; i++)
        CU_ASSERT_TRUE(client_gets(to, "t/a", "x", 1));
    CU_ASSERT_TRUE(client_fence(to, to));
    client_close(to);
    broker_drop(&b);
}

static const unit_test TESTS[] = {
    {"every QoS passes in both versions", every_qos_passes},
    {"denials look as expected", denials_look_as_expected},
    {"wills are sent when a connection drops", wills_are_sent},
    {"redelivery reaches the broker", redelivery_reaches_the_broker},
};
UNIT_MAIN("control", TESTS)
