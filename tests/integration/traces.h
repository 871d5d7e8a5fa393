/* Looks for bytes in whatever was written, by whomever. */
#ifndef TRACES_H
#define TRACES_H

/*
 * How often the text stands in the files below the folder, whatever they are; the names of those that have it go to
 * stderr where `tell`. -1: the folder cannot be read. What vanishes meanwhile is passed over.
 */
long traces_in_folder(const char *folder, const char *text, int tell);

#endif
