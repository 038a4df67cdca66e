/* Files that clients name. */
#ifndef TESSI_KERNEL_FILES_H
#define TESSI_KERNEL_FILES_H

/* As open(2), folder by folder, so that a link that somebody has put there since it was decided that the file may be
 * used leads nowhere else: ELOOP or ENOTDIR. */
int tessi_open_without_links(const char *path, int flags);

#endif
