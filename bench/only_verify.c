/*
 * A plugin that does nothing but the least that a verifying plugin must: one Ed25519 verification of each message by
 * libsodium. What the gate costs more than this is the gate's own; a verification in a broker, between system calls,
 * costs more than in a loop of verifications, whose caches stay warm.
 *
 *   plugin_opt_record FILE     whose key to verify with
 */
#include "plugin/broker.h"

#include "pep.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define EXPORTED __attribute__((visibility("default")))

static pep_record signer;
static unsigned valid; /* keeps the result in use */

static int on_acl_check(int event, void *event_data, void *userdata)
{
    (void)event;
    (void)event_data;
    (void)userdata;
    return MOSQ_ERR_PLUGIN_DEFER;
}

/* The signature ends an envelope; the bytes before it are as many as the gate verifies, give or take a few. */
static int on_message(int event, void *event_data, void *userdata)
{
    const struct mosquitto_evt_message *e = event_data;
    (void)event;
    (void)userdata;
    if (e->payloadlen <= PEP_SIGNATURE_BYTES)
        return MOSQ_ERR_SUCCESS;
    const uint8_t *bytes = e->payload;
    size_t n = e->payloadlen - PEP_SIGNATURE_BYTES;
    valid += crypto_sign_verify_detached(bytes + n, bytes, n, signer.sign_public) == 0;
    return MOSQ_ERR_SUCCESS;
}

EXPORTED int mosquitto_plugin_version(int count, const int *versions)
{
    for (int i = 0; i < count; i++)
        if (versions[i] == 5)
            return 5;
    return -1;
}

EXPORTED int mosquitto_plugin_init(mosquitto_plugin_id_t *identifier, void **userdata, struct mosquitto_opt *options,
                                   int count)
{
    pep_error error;
    (void)userdata;
    if (pep_init() != PEP_OK || count != 1 || strcmp(options[0].key, "record") != 0 ||
        pep_record_load(&signer, &error, options[0].value) != PEP_OK)
        return MOSQ_ERR_INVAL;
    int rc = mosquitto_callback_register(identifier, MOSQ_EVT_ACL_CHECK, on_acl_check, NULL, NULL);
    return rc == MOSQ_ERR_SUCCESS ? mosquitto_callback_register(identifier, MOSQ_EVT_MESSAGE, on_message, NULL, NULL)
                                  : rc;
}

EXPORTED int mosquitto_plugin_cleanup(void *userdata, struct mosquitto_opt *options, int count)
{
    (void)userdata;
    (void)options;
    (void)count;
    return MOSQ_ERR_SUCCESS;
}
