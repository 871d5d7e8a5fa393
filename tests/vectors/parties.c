#include "tests/vectors/parties.h"

#include "tests/vectors/world.h"

party parties[PARTIES] = {
    [KEYS_1] = {.name = "pump-7, first keys", .id = DEVICE_ID},
    [KEYS_2] = {.name = "pump-7, second keys", .id = DEVICE_ID},
    [KEYS_3] = {.name = "pump-7, third keys", .id = DEVICE_ID},
    [ADMIN] = {.name = "admin", .id = "console"},
    [STRANGER] = {.name = "stranger", .id = "stranger"},
    [AUTHORITY_1] = {.name = "authority 1", .id = "authority-1"},
    [AUTHORITY_2] = {.name = "authority 2", .id = "authority-2"},
    [AUTHORITY_OTHER] = {.name = "another authority", .id = "authority-3"},
};

void parties_make(void)
{
    for (size_t i = 0; i < PARTIES; i++) {
        uint8_t seed[32];
        uint8_t secret[32];
        world_secret(seed, "signing seed of", parties[i].name);
        world_secret(secret, "agreement secret of", parties[i].name);
        must(pep_device_from_secrets(&parties[i].device, parties[i].id, seed, secret) == PEP_OK, "no party");
    }
}
