-- Every change to a message that miltertest can look for, and that none is left for the next.
dofile(common)
local conn = open()
greet(conn)
message(conn, "<edits@example.org>")
expect("accept", "eom", conn)
check(mt.eom_check(conn, MT_HDRADD, "X-A", "one"), "no header added")
check(mt.getheader(conn, "X-A", 0) == "one", "the header's value")
check(mt.eom_check(conn, MT_HDRINSERT, "X-B", "two", 1), "no header inserted")
check(mt.eom_check(conn, MT_HDRCHANGE, "Subject", "changed"), "no header changed")
check(mt.eom_check(conn, MT_HDRDELETE, "X-Gone"), "no header deleted")
check(mt.eom_check(conn, MT_RCPTADD, "<carol@example.net>"), "no recipient added")
check(mt.eom_check(conn, MT_RCPTDELETE, "<bob@example.net>"), "no recipient deleted")
check(mt.eom_check(conn, MT_BODYCHANGE, "new body\r\n"), "the body was not replaced")
check(mt.eom_check(conn, MT_QUARANTINE, "for now"), "not quarantined")

message(conn, "<plain@example.org>")
expect("accept", "eom", conn)
for _, op in ipairs({
  MT_HDRADD, MT_HDRINSERT, MT_HDRCHANGE, MT_HDRDELETE, MT_BODYCHANGE, MT_QUARANTINE,
}) do
  check(not mt.eom_check(conn, op), "a change (" .. op .. ") to the next message")
end
mt.disconnect(conn)
