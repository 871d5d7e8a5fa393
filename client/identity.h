/* The files of one device: ID.key, ID.pub and ID.seq, and ID.key.new and ID.pub.new while a rotation is on its way. */
#ifndef CLIENT_IDENTITY_H
#define CLIENT_IDENTITY_H

#include "pep.h"

typedef struct {
    char *key, *pub, *seq, *fresh, *fresh_pub; /* paths; fresh: ID.key.new, and ID.pub.new */
} device_files;

/* Names the files of an id in a folder (NULL: this one), or those beside a key file. 0, or an exit code after a line.
 */
int name_files(device_files *out, const char *dir, const char *id);
int name_files_beside(device_files *out, const char *key);
void free_files(device_files *files);

/* 0 where a device of that name can be made, else 2 after a line. */
int check_new_id(const char *id);

/* Makes all three files or none. 0, or an exit code after a line on stderr. */
int save_identity(const pep_device *device, const device_files *files, const uint8_t *record, size_t record_n);

/* Which file it was that a key was read from: so that a rotation by another process is noticed. */
typedef struct {
    uint64_t device, inode, size;
    int64_t changed_s, changed_ns;
} file_stamp;

/* True where `path` is another file than `stamp` says, which then is of this one. False where there is none. */
bool file_changed(file_stamp *stamp, const char *path);

/*
 * Keeps other processes from replacing the key file; `wait`: until they are done. Returns a descriptor to close, or -1.
 * A key file that is read behind it stays as it is.
 */
int lock_key(const char *path, bool wait);

/*
 * Deletes former keys whose time is over, here and in the file that the device was read from; where that cannot be
 * written now, whoever reads it next tries.
 */
void drop_old_keys(pep_device *device, const char *path);

/* Says on stderr where a rotation of the key in this file has begun and not ended. */
void warn_if_rotating(const char *path);

#endif
