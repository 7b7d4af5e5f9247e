-- Steps that are left out, headers without replies, and SKIP.
dofile(common)
local conn = open()
check(mt.test_option(conn, SMFIP_NOHELO), "HELO was not declined")
check(mt.test_option(conn, SMFIP_NOEOH), "the end of the headers was not declined")
check(not mt.test_option(conn, SMFIP_NOBODY), "the body was declined")
local new = tonumber(version) >= 6
check(mt.test_option(conn, SMFIP_NR_HDR) == new, "replies to headers")
check(mt.test_option(conn, SMFIP_SKIP) == new, "SKIP")
check(mt.test_action(conn, SMFIF_ADDHDRS), "adding headers was not asked for")
check(not mt.test_action(conn, SMFIF_CHGBODY), "replacing the body was asked for")

expect("continue", "conninfo", conn, "client.example", "192.0.2.1")
expect("continue", "mailfrom", conn, "<a@example.org>")
expect("continue", "rcptto", conn, "<bob@example.net>")
expect("continue", "data", conn)
for n = 1, 20 do
  expect("continue", "header", conn, "X-" .. n, "value")
end
expect("continue", "bodystring", conn, "first\r\n")
expect(new and "skip" or "continue", "bodystring", conn, "second\r\n")
expect("accept", "eom", conn)
check(mt.eom_check(conn, MT_HDRADD, "X-Seen", "yes"), "out of step")
mt.disconnect(conn)
