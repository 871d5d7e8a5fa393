/* mosquitto.conf, through conf_read and real files: what Mosquitto takes from it, and in which order. */
#include "client/mosquitto_conf.h"

#include "scratch.h"
#include "unit.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static conf_error error;

static void put(const char *name, const char *text)
{
    write_file(scratch_path(name), text, strlen(text), 0600);
}

static void put_folder(const char *name)
{
    CU_ASSERT_EQUAL_FATAL(mkdir(scratch_path(name), 0700), 0);
}

static const char *base_of(const char *path)
{
    return strrchr(path, '/') + 1;
}

/* All settings, as "file:line name=value;" one after the other. */
static const char *settings(const mosquitto_conf *c)
{
    static char text[4096];
    size_t n = 0;
    text[0] = '\0';
    for (size_t i = 0; i < c->n && n < sizeof text; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s:%u %s=%s;", base_of(c->at[i].file), c->at[i].line,
                              c->at[i].name, c->at[i].value);
    return text;
}

static void expect(const char *expected)
{
    mosquitto_conf c;
    bool ok = conf_read(&c, &error, scratch_path("m.conf"));
    const char *got = ok ? settings(&c) : error.text;
    if (!ok || strcmp(got, expected) != 0)
        printf("\n    %s\n    and not %s ", got, expected);
    CU_ASSERT_TRUE(ok);
    CU_ASSERT_STRING_EQUAL(got, expected);
    conf_free(&c);
}

/* Refused, with the file (and line) in front and `what` in it. */
static void expect_error(const char *where, const char *what)
{
    mosquitto_conf c;
    CU_ASSERT_FALSE(conf_read(&c, &error, scratch_path("m.conf")));
    bool right = strncmp(error.text, scratch_path(where), strlen(scratch_path(where))) == 0 &&
                 strstr(error.text, what) != NULL && strchr(error.text, '\n') == NULL;
    if (!right)
        printf("\n    not '%s: ... %s': %s ", where, what, error.text);
    CU_ASSERT_TRUE(right);
    conf_free(&c);
}

/* ---- lines ---- */

static void test_lines(void)
{
    static const struct {
        const char *text, *settings;
    } cases[] = {
        {"", ""},
        {"\n\n", ""},
        {"a b", "m.conf:1 a=b;"},
        {"a b\n", "m.conf:1 a=b;"},
        {"# a b\n#\nc d\n", "m.conf:3 c=d;"},
        {"a b # c\n", "m.conf:1 a=b # c;"}, /* Mosquitto knows no comment behind a value */
        {" # a\n", "m.conf:1 #=a;"},        /* nor one that is not in front */
        {"  a  b  c  \n", "m.conf:1 a=b  c;"},
        {"a \t b\t\n", "m.conf:1 a=b;"},
        {"a\tb\n", "m.conf:1 a\tb=;"}, /* only a space ends a name */
        {"a\n", "m.conf:1 a=;"},
        {"a \n", "m.conf:1 a=;"},
        {"   \n\t\nb c\n", "m.conf:3 b=c;"},
        {"a b\r\nc d\r\n", "m.conf:1 a=b;m.conf:2 c=d;"},
        {"\ra b\nc d", "m.conf:2 c=d;"}, /* Mosquitto passes over it */
        {"a b\na c\n", "m.conf:1 a=b;m.conf:2 a=c;"},
    };
    scratch_begin();
    for (size_t i = 0; i < COUNT(cases); i++) {
        put("m.conf", cases[i].text);
        expect(cases[i].settings);
    }
    scratch_end();
}

static void test_long_line(void)
{
    enum { LONG = 1 << 20 };
    static char text[LONG + 16];
    memset(text, 'x', sizeof text - 1);
    text[1] = ' ';
    (void)snprintf(text + LONG, 16, "\nb c\n");
    scratch_begin();
    put("m.conf", text);
    mosquitto_conf c;
    CU_ASSERT_TRUE_FATAL(conf_read(&c, &error, scratch_path("m.conf")));
    CU_ASSERT_TRUE(c.n == 2 && strlen(c.at[0].value) == LONG - 2 && c.at[1].line == 2);
    conf_free(&c);
    scratch_end();
}

static void test_last(void)
{
    mosquitto_conf c;
    scratch_begin();
    put("m.conf", "a 1\nb 2\na 3\n");
    CU_ASSERT_TRUE_FATAL(conf_read(&c, &error, scratch_path("m.conf")));
    CU_ASSERT_TRUE(conf_last(&c, "a") == &c.at[2] && conf_last(&c, "b") == &c.at[1] && conf_last(&c, "c") == NULL);
    conf_free(&c);
    scratch_end();
}

static void test_words(void)
{
    CU_ASSERT_TRUE(conf_word_is("all", "all") && conf_word_is("all # x", "all") && conf_word_is("", ""));
    CU_ASSERT_FALSE(conf_word_is("all", "al") || conf_word_is("al", "all") || conf_word_is("", "all"));
    CU_ASSERT_STRING_EQUAL(conf_second_word("file  /a b"), "/a b");
    CU_ASSERT_STRING_EQUAL(conf_second_word("file"), "");
}

/* ---- include_dir ---- */

/* The line that includes the folder `name`, which is not in a text that is known before. */
static void put_including(const char *file, const char *before, const char *name, const char *behind)
{
    char text[1024];
    (void)snprintf(text, sizeof text, "%sinclude_dir %s\n%s", before, scratch_path(name), behind);
    put(file, text);
}

/* The example of mosquitto.conf(5), and two that the case of their first letter orders. */
static void test_include_order(void)
{
    static const char *const names[] = {"b.conf",  "a1.conf", "A.conf", "01.conf",
                                        "A2.conf", "a.conf",  "B.conf", "00.conf"};
    static const char *const others[] = {".conf", "c.conf.bak", "README", "d.con", "xconf"};
    char expected[1024];
    char path[64];
    scratch_begin();
    put_folder("d");
    for (size_t i = 0; i < COUNT(names) + COUNT(others); i++) {
        const char *name = i < COUNT(names) ? names[i] : others[i - COUNT(names)];
        (void)snprintf(path, sizeof path, "d/%s", name);
        put(path, "x y\n");
    }
    put_including("m.conf", "a b\n", "d", "c d\n");
    (void)snprintf(
        expected, sizeof expected,
        "m.conf:1 a=b;m.conf:2 include_dir=%s;00.conf:1 x=y;01.conf:1 x=y;A.conf:1 x=y;A2.conf:1 x=y;a.conf:1 x=y;"
        "a1.conf:1 x=y;B.conf:1 x=y;b.conf:1 x=y;m.conf:3 c=d;",
        scratch_path("d"));
    expect(expected);
    scratch_end();
}

/* An included file's own include_dir does nothing, and neither does a folder that holds the file that names it. */
static void test_include_loops(void)
{
    char expected[1024];
    const char *own;
    scratch_begin();
    put_folder("d");
    put_including("d/1.conf", "", "d", "x y\n");
    put_including("m.conf", "", "d", "");
    own = scratch_path("d");
    (void)snprintf(expected, sizeof expected, "m.conf:1 include_dir=%s;1.conf:1 include_dir=%s;1.conf:2 x=y;", own,
                   own);
    expect(expected);

    CU_ASSERT_EQUAL(remove(scratch_path("d/1.conf")), 0);
    put_including("m.conf", "", "", "");
    own = scratch_path("");
    (void)snprintf(expected, sizeof expected, "m.conf:1 include_dir=%s;m.conf:1 include_dir=%s;", own, own);
    expect(expected);
    scratch_end();
}

/* ---- what belongs to what ---- */

static size_t line_of(const mosquitto_conf *c, const char *name)
{
    const conf_setting *s = conf_last(c, name);
    CU_ASSERT_PTR_NOT_NULL_FATAL(s);
    return (size_t)(s - c->at);
}

static void test_plugins(void)
{
    mosquitto_conf c;
    scratch_begin();
    put("m.conf", "plugin_opt_none 1\n"
                  "plugin /a b.so\nplugin_opt_a 1\n"
                  "global_plugin /g.so\nplugin_opt_g 1\n"
                  "auth_plugin /o.so\nauth_opt_o 1\n"
                  "plugin_load name /l.so\nplugin_opt_l 1\n"
                  "plugin_load other /m.so\nplugin_opt_m name\n"
                  "plugin_use name\nplugin_opt_again 1\nplugin_use nobody\n");
    CU_ASSERT_TRUE_FATAL(conf_read(&c, &error, scratch_path("m.conf")));
    CU_ASSERT_EQUAL(c.at[0].plugin, CONF_NONE);
    CU_ASSERT_EQUAL(c.at[line_of(&c, "plugin_opt_a")].plugin, line_of(&c, "plugin"));
    CU_ASSERT_EQUAL(c.at[line_of(&c, "plugin_opt_g")].plugin, line_of(&c, "global_plugin"));
    CU_ASSERT_EQUAL(c.at[line_of(&c, "auth_opt_o")].plugin, line_of(&c, "auth_plugin"));
    CU_ASSERT_EQUAL(c.at[line_of(&c, "plugin_opt_m")].plugin, line_of(&c, "plugin_load"));
    CU_ASSERT_EQUAL(c.at[line_of(&c, "plugin_opt_l")].plugin, line_of(&c, "plugin_opt_l") - 1);
    CU_ASSERT_EQUAL(c.at[line_of(&c, "plugin_opt_again")].plugin, line_of(&c, "plugin_opt_l") - 1);
    CU_ASSERT_STRING_EQUAL(conf_plugin_path(conf_last(&c, "plugin")), "/a b.so");
    CU_ASSERT_STRING_EQUAL(conf_plugin_path(conf_last(&c, "plugin_load")), "/m.so");
    CU_ASSERT_PTR_NULL(conf_plugin_path(conf_last(&c, "plugin_use")));
    CU_ASSERT_PTR_NULL(conf_plugin_path(conf_last(&c, "plugin_opt_a")));
    conf_free(&c);
    scratch_end();
}

/* What an included file begins ends with it; what the main one began goes on behind it. */
static void test_files_divide(void)
{
    mosquitto_conf c;
    scratch_begin();
    put_folder("d");
    put("d/1.conf", "topic in1\nconnection b\nplugin /p.so\ntopic in2\n");
    put("d/2.conf", "topic in3\n");
    put_including("m.conf", "connection a\nplugin /m.so\n", "d", "topic main\n");
    CU_ASSERT_TRUE_FATAL(conf_read(&c, &error, scratch_path("m.conf")));
    static const struct {
        size_t bridge, plugin;
    } expected[] = {
        {0, CONF_NONE}, /* connection a */
        {0, 1},         /* plugin /m.so */
        {0, 1},         /* include_dir */
        {CONF_NONE, CONF_NONE},
        {4, CONF_NONE},
        {4, 5},
        {4, 5},
        {CONF_NONE, CONF_NONE},
        {0, 1}, /* topic main */
    };
    CU_ASSERT_EQUAL_FATAL(c.n, COUNT(expected));
    for (size_t i = 0; i < c.n; i++)
        CU_ASSERT_TRUE(c.at[i].bridge == expected[i].bridge && c.at[i].plugin == expected[i].plugin);
    conf_free(&c);
    scratch_end();
}

/* ---- hostile ---- */

static void test_unreadable(void)
{
    scratch_begin();
    expect_error("m.conf", "No such file");
    put_folder("m.conf");
    expect_error("m.conf", "is a folder");
    CU_ASSERT_EQUAL(rmdir(scratch_path("m.conf")), 0);
    CU_ASSERT_EQUAL(mkfifo(scratch_path("m.conf"), 0600), 0);
    expect_error("m.conf", "no regular file");
    CU_ASSERT_EQUAL(remove(scratch_path("m.conf")), 0);

    put("m.conf", "a b\ninclude_dir\n");
    expect_error("m.conf:2", "names no folder");
    put_including("m.conf", "a b\n", "none", "");
    expect_error("m.conf:2", "No such file");
    put_folder("d");
    put_including("m.conf", "", "d", "");
    put_folder("d/x.conf");
    expect_error("d/x.conf", "is a folder");
    CU_ASSERT_EQUAL(rmdir(scratch_path("d/x.conf")), 0);
    CU_ASSERT_EQUAL(symlink("x.conf", scratch_path("d/x.conf")), 0);
    expect_error("d/x.conf", "symbolic links");
    scratch_end();
}

static int read_as_somebody(int report)
{
    mosquitto_conf c = {0};
    (void)report;
    bool ok = become_ordinary() && !conf_read(&c, &error, scratch_path("m.conf"));
    conf_free(&c);
    return ok && strstr(error.text, "Permission denied") != NULL ? 0 : 1;
}

static void test_permissions(void)
{
    int reports;
    scratch_begin();
    put("m.conf", "a b\n");
    CU_ASSERT_EQUAL(chmod(scratch_folder, 0755) | chmod(scratch_path("m.conf"), 0), 0);
    pid_t child = start_child(&reports, read_as_somebody);
    CU_ASSERT_TRUE(ended_well(end_child(child, reports)));
    scratch_end();
}

static void test_nul(void)
{
    static const char text[] = "a b\nlog_type none\0 all\n";
    scratch_begin();
    write_file(scratch_path("m.conf"), text, sizeof text - 1, 0600);
    expect_error("m.conf:2", "NUL");
    put_folder("d");
    write_file(scratch_path("d/x.conf"), text, sizeof text - 1, 0600);
    put_including("m.conf", "", "d", "");
    expect_error("d/x.conf:2", "NUL");
    scratch_end();
}

static void fill(const char *name, const char *line, size_t times)
{
    size_t n = strlen(line);
    char *text = calloc(times, n + 1);
    if (text == NULL)
        exit(1);
    for (size_t i = 0; i < times; i++)
        memcpy(text + i * n, line, n + 1);
    put(name, text);
    free(text);
}

static void test_too_much(void)
{
    scratch_begin();
    fill("m.conf", "a b\n", CONF_SETTINGS_MAX + 1);
    expect_error("m.conf:20001", "more than 20000 settings");
    fill("m.conf", "#\n", CONF_BYTES_MAX / 2);
    expect("");
    fill("m.conf", "#\n", CONF_BYTES_MAX / 2 + 1);
    expect_error("m.conf", "too large");
    put_folder("d"); /* the limit is for all together */
    fill("d/1.conf", "#\n", CONF_BYTES_MAX / 4);
    fill("d/2.conf", "#\n", CONF_BYTES_MAX / 4);
    put_including("m.conf", "", "d", "");
    expect_error("d/2.conf", "too large");
    scratch_end();
}

static void test_too_many_files(void)
{
    char name[32];
    scratch_begin();
    put_folder("d");
    for (int i = 0; i <= CONF_FILES_MAX; i++) {
        (void)snprintf(name, sizeof name, "d/%05d.conf", i);
        put(name, "");
    }
    put_including("m.conf", "", "d", "");
    expect_error("m.conf:1", "more than 10000 files in the folder");
    CU_ASSERT_EQUAL(remove(scratch_path(name)), 0);
    expect_error("d/09999.conf", "more than 10000 files"); /* with the one that includes them */
    scratch_end();
}

static const unit_test tests[] = {
    {"lines", test_lines},
    {"a long line", test_long_line},
    {"the last one counts", test_last},
    {"words", test_words},
    {"include_dir: order", test_include_order},
    {"include_dir: no loops", test_include_loops},
    {"plugins and their options", test_plugins},
    {"files divide", test_files_divide},
    {"unreadable", test_unreadable},
    {"permissions", test_permissions},
    {"NUL", test_nul},
    {"too much", test_too_much},
    {"too many files", test_too_many_files},
};

UNIT_MAIN("mosquitto_conf", tests)
