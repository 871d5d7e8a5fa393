/* The directory's tables, as store_open makes them. Also for `pep backup` and `pep restore`. */
#ifndef DIRECTORY_TABLES_H
#define DIRECTORY_TABLES_H

#include "store/store.h"

#define DIRECTORY_MIGRATIONS 1

extern const store_migration directory_migrations[DIRECTORY_MIGRATIONS];

#endif
