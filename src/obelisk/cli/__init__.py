"""Thin commands: parse, call, print.

stdout carries the result (a table, or one JSON object per line); stderr carries progress and notes.
Exit codes: 0 done, 1 some inputs or the machine failed, 2 the user's mistake, 130 Ctrl-C, 141 the reader of a pipe
went away, 143 stopped by SIGTERM.
"""
