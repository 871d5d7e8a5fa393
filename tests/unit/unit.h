/* What every unit test program shares: a table of tests, run by CUnit; the exit code tells whether all passed. */
#ifndef UNIT_H
#define UNIT_H

#include <CUnit/Basic.h>
#include <stdio.h>

typedef struct {
    const char *name;
    void (*run)(void);
} unit_test;

static inline int unit_main(const char *suite_name, const unit_test *tests, size_t count)
{
    if (CU_initialize_registry() != CUE_SUCCESS)
        return 1;
    CU_pSuite suite = CU_add_suite(suite_name, NULL, NULL);
    for (size_t i = 0; suite != NULL && i < count; i++)
        if (CU_add_test(suite, tests[i].name, tests[i].run) == NULL)
            return 1;
    CU_basic_set_mode(CU_BRM_VERBOSE);
    CU_basic_run_tests();
    unsigned failed = CU_get_number_of_failures();
    unsigned ran = CU_get_number_of_tests_run();
    CU_cleanup_registry();
    return failed == 0 && ran == count ? 0 : 1;
}

#define UNIT_MAIN(suite_name, tests)                                                                                   \
    int main(void)                                                                                                     \
    {                                                                                                                  \
        return unit_main(suite_name, tests, sizeof(tests) / sizeof((tests)[0]));                                       \
    }

#endif
