#include "pep/directory.h"
