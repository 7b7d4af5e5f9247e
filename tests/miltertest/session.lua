-- Every step once, with macros; a message that is given up, and the next one.
dofile(common)
local conn = open()

mt.macro(conn, SMFIC_CONNECT, "j", "mx.example.net")
expect("continue", "conninfo", conn, "client.example", "192.0.2.1")
mt.macro(conn, SMFIC_HELO, "{tls_version}", "TLSv1.3")
expect("continue", "helo", conn, "client.example")
mt.macro(conn, SMFIC_MAIL, "i", "4XyZ", "{auth_type}", "PLAIN")
expect("continue", "mailfrom", conn, "<a@example.org>", "SIZE=10", "BODY=8BITMIME")
mt.macro(conn, SMFIC_RCPT, "{rcpt_addr}", "bob@example.net")
expect("continue", "rcptto", conn, "<bob@example.net>", "NOTIFY=NEVER")
expect("continue", "rcptto", conn, "<carol@example.net>")
if tonumber(version) >= 3 then
  expect("continue", "unknown", conn, "XYZZY 1")
end
expect("continue", "data", conn)
expect("continue", "header", conn, "Subject", "hello")
expect("continue", "header", conn, "X-Empty", "")
expect("continue", "eoh", conn)
expect("continue", "bodystring", conn, "first\r\n")
expect("continue", "bodystring", conn, "second\r\n")
expect("accept", "eom", conn)
check(mt.eom_check(conn, MT_HDRADD, "X-Seen", "yes"), "no header was added")
check(not mt.eom_check(conn, MT_HDRADD, "X-Other"), "another header was added")
check(not mt.eom_check(conn, MT_BODYCHANGE), "the body was changed")

-- Given up after the headers.
expect("continue", "mailfrom", conn, "<given-up@example.org>")
expect("continue", "rcptto", conn, "<bob@example.net>")
expect("continue", "header", conn, "Subject", "not this")
check(mt.abort(conn) == nil, "abort")
if tonumber(version) >= 3 then
  expect("continue", "unknown", conn, "XYZZY 2")
end

-- The next one is not mixed up with it.
expect("continue", "mailfrom", conn, "<next@example.org>")
expect("continue", "rcptto", conn, "<bob@example.net>")
expect("continue", "header", conn, "Subject", "this")
expect("continue", "eoh", conn)
expect("continue", "bodystring", conn, "third\r\n")
expect("accept", "eom", conn)
check(mt.eom_check(conn, MT_HDRADD, "X-Seen", "yes"), "no header was added to the next message")
mt.disconnect(conn)

-- A connection that is dropped within a message.
conn = open()
greet(conn)
expect("continue", "mailfrom", conn, "<dropped@example.org>")
mt.disconnect(conn, false)
