-- Redis' Lua 5.1 with the two tables and the one module that a script is given.
std = "lua51"
read_globals = {"redis", "KEYS", "ARGV"}
max_line_length = 120
