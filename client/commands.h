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
extern const command backup_command;
extern const command restore_command;
extern const command enroll_command;
extern const command lookup_command;
extern const command rotate_command;
extern const command revoke_command;
extern const command token_command;
extern const command ledger_query_command;
extern const command ledger_sum_command;
extern const command ledger_export_command;
extern const command ledger_plot_command;
extern const command ledger_forget_command;
extern const command ledger_erasures_command;
extern const command authority_init_command;
extern const command authority_issue_command;
extern const command policy_check_command;
extern const command policy_explain_command;
extern const command privacy_check_command;

#endif
