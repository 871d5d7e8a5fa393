/* The ledger's tables, which applications may read: docs/OPERATIONS.md. */
#ifndef LEDGER_TABLES_H
#define LEDGER_TABLES_H

#include "store/store.h"

/* `read_only`: for the connection that answers questions. */
store_schema ledger_schema(bool read_only);

#endif
