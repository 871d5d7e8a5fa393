/* The commands: each describes itself. */
#ifndef CLIENT_COMMANDS_H
#define CLIENT_COMMANDS_H

#include "client/options.h"

extern const command keygen_command;
extern const command seal_command;
extern const command open_command;
extern const command verify_command;
extern const command inspect_command;
extern const command pub_command;
extern const command sub_command;
extern const command audit_command;
extern const command policy_check_command;
extern const command policy_explain_command;

#endif
