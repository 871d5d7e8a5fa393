/* What tests of files share: a folder of their own, whole files in it, children, and a limit on what can be written. */
#ifndef SCRATCH_H
#define SCRATCH_H

#include <CUnit/Basic.h>
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOBODY 65534

static char scratch_folder[256];

static inline int scratch_remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st;
    (void)kind;
    (void)at;
    return remove(path);
}

/* A fresh folder; the one before is removed. */
static inline void scratch_begin(void)
{
    const char *parent = getenv("TMPDIR");
    snprintf(scratch_folder, sizeof scratch_folder, "%s/pep-unit-XXXXXX", parent == NULL ? "/tmp" : parent);
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(scratch_folder));
}

static inline void scratch_end(void)
{
    CU_ASSERT_EQUAL(nftw(scratch_folder, scratch_remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
}

/* A path in the folder, valid until the fourth call after this one. */
static inline const char *scratch_path(const char *name)
{
    static char paths[4][512];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", scratch_folder, name);
    return path;
}

static inline void write_file(const char *path, const void *bytes, size_t n, mode_t mode)
{
    remove(
        path); /* some file systems write a truncated file to the disk when it is closed: thousands would take long */
    FILE *file = fopen(path, "wb");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    CU_ASSERT_EQUAL_FATAL(fwrite(bytes, 1, n, file), n);
    CU_ASSERT_EQUAL_FATAL(fchmod(fileno(file), mode), 0);
    CU_ASSERT_EQUAL_FATAL(fclose(file), 0);
}

static inline size_t read_file(uint8_t *out, size_t cap, const char *path)
{
    FILE *file = fopen(path, "rb");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    size_t n = fread(out, 1, cap, file);
    fclose(file);
    return n;
}

static inline mode_t mode_of_file(const char *path)
{
    struct stat st;
    CU_ASSERT_EQUAL_FATAL(lstat(path, &st), 0);
    return st.st_mode & 07777;
}

/* Entries of the folder, without `.` and `..`. */
static inline unsigned scratch_count(void)
{
    unsigned n = 0;
    DIR *folder = opendir(scratch_folder);
    if (folder == NULL) {
        CU_FAIL("the folder is gone");
        return 0;
    }
    while (readdir(folder) != NULL)
        n++;
    closedir(folder);
    return n - 2;
}

/* Lets no file grow beyond `bytes`, as a full disk would not; true: from now on, false: no longer. */
static inline void limit_files(bool on, rlim_t bytes)
{
    struct rlimit limit;
    CU_ASSERT_EQUAL_FATAL(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = on ? bytes : limit.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    CU_ASSERT_EQUAL_FATAL(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/*
 * Runs `body` in a child that may write 8 byte reports into the descriptor it gets; the parent reads them from
 * *reports. The child ends with what `body` returns as its exit code.
 */
static inline pid_t start_child(int *reports, int (*body)(int report))
{
    int ends[2];
    CU_ASSERT_EQUAL_FATAL(pipe2(ends, O_CLOEXEC), 0);
    fflush(stdout);
    pid_t child = fork();
    CU_ASSERT_FATAL(child >= 0);
    if (child == 0) {
        close(ends[0]);
        _exit(body(ends[1]));
    }
    close(ends[1]);
    *reports = ends[0];
    return child;
}

static inline bool next_report(int reports, uint64_t *out)
{
    return read(reports, out, sizeof *out) == sizeof *out;
}

/* What waitpid says of the child; its pipe is closed. */
static inline int end_child(pid_t child, int reports)
{
    int status = -1;
    CU_ASSERT_EQUAL(waitpid(child, &status, 0), child);
    close(reports);
    return status;
}

static inline bool ended_well(int status)
{
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* In a child: gives up root's right to open everything. */
static inline bool become_ordinary(void)
{
    return geteuid() != 0 || (setgid(NOBODY) == 0 && setuid(NOBODY) == 0);
}

#endif
