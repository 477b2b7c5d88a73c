"""Thin commands: parse, call, print.

stdout carries the result (a table, or one JSON object a line); stderr carries progress and notes.
Exit codes: 0 done, 1 some inputs failed or the machine did, 2 the user's mistake, 143 stopped by SIGTERM.
"""
