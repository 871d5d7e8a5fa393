/*
 * Scripts for gnuplot, whose language can run commands and write files. Promise: whatever text of other people goes
 * into one comes out as text, in every form that the picture has, and as nothing else.
 */
#include "client/gnuplot.h"

#include "unit.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define MAX          40

/* ---- one text ---- */

static char *escaped(const char *text, size_t max)
{
    char *out = NULL;
    size_t n = 0;
    FILE *memory = open_memstream(&out, &n);
    CU_ASSERT_PTR_NOT_NULL_FATAL(memory);
    put_gnuplot_text(memory, text, max);
    CU_ASSERT_EQUAL(fclose(memory), 0);
    return out;
}

static const struct {
    const char *text, *escaped;
} cases[] = {
    {"", "\"\""},
    {"plain text/a-b_c.d,e:f", "\"plain text/a-b_c.d,e:f\""},
    {"\"; system(\"touch x\") #", "\"\\042\\073 system\\050\\042touch x\\042\\051 \\043\""},
    {"`touch x`", "\"\\140touch x\\140\""},
    {"'@x$y", "\"\\047\\100x\\044y\""},
    {"a\\", "\"a\\134\""},
    {"12", "\"\\061\\062\""},
    {"{/Bold x}^2", "\"\\173/Bold x\\175\\136\\062\""},
    {"R&D &amp;", "\"R\\046D \\046amp\\073\""},
    {"<b>", "\"\\134x\\063cb\\134x\\063e\""}, /* as are what SVG would take for markup */
    {"&#a", "\"\\134x\\062\\066\\043a\""},
    {"]]>", "\"\\135\\135\\134x\\063e\""},
    {"%s", "\"\\045s\""},
    {"caf\xc3\xa9", "\"caf\\303\\251\""},
    {"a\nb", "\"a\\134x\\060ab\""}, /* control characters are shown as other commands do */
    {"\xe2\x80\xae", "\"\\134xe\\062\\134x\\070\\060\\134xae\""},
    {"\xff", "\"\\134xff\""},
};

static void test_text(void)
{
    for (size_t i = 0; i < COUNT(cases); i++) {
        char *text = escaped(cases[i].text, MAX);
        CU_ASSERT_STRING_EQUAL(text, cases[i].escaped);
        if (strcmp(text, cases[i].escaped) != 0)
            printf("\n    %s: %s ", cases[i].text, text);
        free(text);
    }
}

/* Between the quotes there is never a byte that means something to gnuplot, but the escapes' own backslash. */
static void test_all_bytes(void)
{
    for (int byte = 1; byte < 256; byte++) {
        const char text[] = {(char)byte, '\0'};
        char *out = escaped(text, MAX);
        size_t n = strlen(out);
        CU_ASSERT_TRUE(n >= 3 && out[0] == '"' && out[n - 1] == '"');
        out[n - 1] = '\0';
        CU_ASSERT_PTR_NULL(strpbrk(out + 1, "\"'`@$#;{}()[]!|&<>%\n\r"));
        for (const char *at = out + 1; (at = strchr(at, '\\')) != NULL; at += 4)
            CU_ASSERT_EQUAL(strspn(at + 1, "01234567"), 3);
        free(out);
    }
}

static void test_cut(void)
{
    static const struct {
        const char *text, *escaped;
    } cut[] = {
        {"abcd", "\"abcd\""},
        {"abcde", "\"abc\\342\\200\\246\""},
        {"\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9", "\"\\303\\251\\303\\251\\303\\251\\303\\251\""},
        {"\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9", "\"\\303\\251\\303\\251\\303\\251\\342\\200\\246\""},
    };
    for (size_t i = 0; i < COUNT(cut); i++) {
        char *text = escaped(cut[i].text, 4);
        CU_ASSERT_STRING_EQUAL(text, cut[i].escaped);
        free(text);
    }
}

/* ---- the script ---- */

static char attack[] =
    "\"; system(\"touch PWNED\"); `touch PWNED` '; !touch PWNED\n@x $series0 </text><script>]]>&#x1;";

static plot make(plot_point *points, size_t n)
{
    plot p = {.title = attack,
              .subtitle = attack,
              .y_label = attack,
              .step_s = 60,
              .counts = true,
              .series = {{.name = attack, .points = points, .n = n}},
              .count = 1};
    return p;
}

static char *script_of(const plot *p)
{
    char *out = NULL;
    size_t n = 0;
    FILE *memory = open_memstream(&out, &n);
    CU_ASSERT_PTR_NOT_NULL_FATAL(memory);
    plot_put_script(memory, p);
    CU_ASSERT_EQUAL(fclose(memory), 0);
    return out;
}

/* Other people's text in a script is as text alone is. */
static void test_script(void)
{
    plot_point points[] = {{600, 1}, {660, 2}};
    plot p = make(points, 2);
    char *script = script_of(&p);
    CU_ASSERT_PTR_NULL(strstr(script, "system("));
    CU_ASSERT_PTR_NOT_NULL(strstr(script, "\\042\\073 system\\050\\042touch PWNED\\042\\051\\073"));
    CU_ASSERT_PTR_NULL(strchr(script, '`'));
    CU_ASSERT_PTR_NULL(strchr(script, '\''));
    CU_ASSERT_PTR_NULL(strchr(script, '!'));
    CU_ASSERT_PTR_NOT_NULL(strstr(script, "$series0 << PEP_END\n600 1\n660 2\nPEP_END\n"));
    free(script);
}

/* Where nothing was counted the line is at 0. */
static void test_gaps(void)
{
    plot_point all[] = {{600, 5}, {1200, 5}};
    plot_point near[] = {{660, 1}, {780, 2}, {1080, 3}};
    plot p = make(all, 2);
    p.series[1] = (plot_series){.name = attack, .points = near, .n = 3};
    p.count = 2;
    char *script = script_of(&p);
    CU_ASSERT_PTR_NOT_NULL(strstr(script, "$series0 << PEP_END\n600 5\n660 0\n1140 0\n1200 5\nPEP_END\n"));
    CU_ASSERT_PTR_NOT_NULL(strstr(script, "$series1 << PEP_END\n600 0\n660 1\n720 0\n780 2\n840 0\n1020 0\n1080 3\n"
                                          "1140 0\n1200 0\nPEP_END\n"));
    free(script);
    p.counts = false;
    script = script_of(&p);
    CU_ASSERT_PTR_NOT_NULL(strstr(script, "$series1 << PEP_END\n660 1\n780 2\n1080 3\nPEP_END\n"));
    free(script);
}

/* ---- gnuplot itself ---- */

static char *draw(const plot *p, size_t *n)
{
    static char picture[1 << 20];
    int fd = memfd_create("picture", MFD_CLOEXEC);
    CU_ASSERT_TRUE_FATAL(fd >= 0);
    CU_ASSERT_EQUAL(plot_draw(p, fd), 0);
    ssize_t got = pread(fd, picture, sizeof(picture) - 1, 0);
    close(fd);
    *n = got > 0 ? (size_t)got : 0;
    picture[*n] = '\0';
    return picture;
}

/* It is drawn, and what stands in it is what was meant. */
static void test_drawing(void)
{
    char folder[] = "/tmp/pep-gnuplot-XXXXXX";
    plot_point points[] = {{1795608000, 1}, {1795608060, 2}};
    plot p = make(points, 2);
    size_t n;
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(folder));
    CU_ASSERT_EQUAL_FATAL(chdir(folder), 0);
    const char *svg = draw(&p, &n);
    CU_ASSERT_PTR_NOT_NULL(strstr(svg, "</svg>"));
    CU_ASSERT_PTR_NOT_NULL(strstr(svg, "system(\"touch PWNED\"); `touch PWN"));
    CU_ASSERT_PTR_NULL(strstr(svg, "<script"));
    p.png = true;
    const char *png = draw(&p, &n);
    CU_ASSERT_TRUE(n > 1000 && memcmp(png, "\x89PNG", 4) == 0);
    CU_ASSERT_NOT_EQUAL(access("PWNED", F_OK), 0);
    CU_ASSERT_EQUAL(chdir("/"), 0);
    CU_ASSERT_EQUAL(rmdir(folder), 0); /* nothing was written */
}

static void test_not_there(void)
{
    plot_point points[] = {{600, 1}};
    plot p = make(points, 1);
    const char *set = getenv("PATH");
    char *path = strdup(set != NULL ? set : "/usr/bin");
    CU_ASSERT_EQUAL(setenv("PATH", "/nowhere", 1), 0);
    int fd = memfd_create("picture", MFD_CLOEXEC);
    CU_ASSERT_EQUAL(plot_draw(&p, fd), 3);
    CU_ASSERT_EQUAL(lseek(fd, 0, SEEK_END), 0);
    CU_ASSERT_EQUAL(setenv("PATH", path, 1), 0);
    close(fd);
    free(path);
}

static const unit_test tests[] = {
    {"a text", test_text},
    {"every byte", test_all_bytes},
    {"a text that is too long", test_cut},
    {"a script", test_script},
    {"gaps", test_gaps},
    {"a picture", test_drawing},
    {"gnuplot is not there", test_not_there},
};

/* As pep does: under valgrind a program that is not there is found out only when its script is written. */
int main(void)
{
    (void)signal(SIGPIPE, SIG_IGN);
    return unit_main("gnuplot", tests, COUNT(tests));
}
