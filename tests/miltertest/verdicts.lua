-- Each verdict at each stage where it ends something, message after message on one connection.
dofile(common)
local conn = open()
greet(conn)

for _, case in ipairs({
  { "reject", "reject" }, { "tempfail", "tempfail" }, { "discard", "discard" },
  { "accept", "accept" }, { "reply", "reply" },
}) do
  local sender, verdict = case[1], case[2]
  expect(verdict, "mailfrom", conn, "<mail-" .. sender .. "@example.org>")
  mt.abort(conn)
  message(conn, "<eom-" .. sender .. "@example.org>")
  expect(verdict, "eom", conn)
end
check(mt.eom_check(conn, MT_SMTPREPLY, "451", "4.7.1", "Come back later"), "another reply")

-- A recipient that is refused leaves the message open.
expect("continue", "mailfrom", conn, "<a@example.org>")
expect("reply", "rcptto", conn, "<nobody@example.net>")
expect("tempfail", "rcptto", conn, "<later@example.net>")
expect("continue", "rcptto", conn, "<bob@example.net>")
expect("continue", "data", conn)
expect("continue", "header", conn, "Subject", "x")
expect("reject", "header", conn, "X-Virus", "yes")
mt.abort(conn)

-- At the end of the headers and in the body.
expect("continue", "mailfrom", conn, "<eoh@example.org>")
expect("continue", "rcptto", conn, "<bob@example.net>")
expect("continue", "header", conn, "Subject", "x")
expect("tempfail", "eoh", conn)
mt.abort(conn)
expect("continue", "mailfrom", conn, "<body@example.org>")
expect("continue", "rcptto", conn, "<bob@example.net>")
expect("continue", "header", conn, "Subject", "x")
expect("continue", "eoh", conn)
expect("continue", "bodystring", conn, "first\r\n")
expect("reject", "bodystring", conn, "second\r\n")
mt.disconnect(conn)

-- Of the client itself.
conn = open()
expect("reject", "conninfo", conn, "bad.example", "192.0.2.2")
mt.disconnect(conn)
conn = open()
expect("continue", "conninfo", conn, "client.example", "192.0.2.1")
expect("reply", "helo", conn, "bad.example")
mt.disconnect(conn)
