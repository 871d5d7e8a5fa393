/* The ledger's tables, which applications may read: docs/OPERATIONS.md. */
#ifndef LEDGER_TABLES_H
#define LEDGER_TABLES_H

#include "store/store.h"

#define LEDGER_TOPIC_INDEXED 500 /* characters, of up to four bytes each */
#define LEDGER_TOPIC_BEGINS  "left(topic, 500)"

/* `read_only`: for the connection that answers questions. */
store_schema ledger_schema(bool read_only);

#endif
