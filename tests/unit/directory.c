#include "unit.h"

static const unit_test tests[] = {{"nothing yet", NULL}};

int main(void)
{
    (void)tests;
    return 0;
}
