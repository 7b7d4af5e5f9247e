-- What the scripts share. They get: socket, version (a string), common (this file).

-- miltertest ends with a failure at an error, but does not print it.
function fail(text)
  mt.echo("FAILED: " .. text)
  error(text)
end

function check(holds, text)
  if not holds then fail(text) end
end

-- What the MTA's version offers. The manual page has the last two arguments of mt.negotiate the
-- other way round; the steps come first.
local steps = { ["2"] = 0x7F, ["3"] = 0x17F, ["4"] = 0x37F, ["6"] = 0x1FFFFF }
local actions = { ["2"] = 0x3F, ["3"] = 0x3F, ["4"] = 0x3F, ["6"] = 0x1FF }

function open()
  local conn = mt.connect(socket)
  check(conn ~= nil, "cannot connect to " .. socket)
  local failed = mt.negotiate(conn, tonumber(version), steps[version], actions[version])
  check(failed == nil, "negotiate: " .. tostring(failed))
  return conn
end

local names = {
  [SMFIR_CONTINUE] = "continue", [SMFIR_ACCEPT] = "accept", [SMFIR_REJECT] = "reject",
  [SMFIR_TEMPFAIL] = "tempfail", [SMFIR_DISCARD] = "discard", [SMFIR_SKIP] = "skip",
  [SMFIR_REPLYCODE] = "reply",
}

-- Does a step and looks at the verdict: expect("continue", "helo", conn, "client.example")
function expect(verdict, step, conn, ...)
  local failed = mt[step](conn, ...)
  check(failed == nil, step .. ": " .. tostring(failed))
  local got = names[mt.getreply(conn)]
  check(got == verdict, step .. " " .. tostring(select("#", ...) > 0 and (...) or "") .. ": " .. tostring(got) .. ", not " .. verdict)
end

-- From the client up to HELO.
function greet(conn)
  expect("continue", "conninfo", conn, "client.example", "192.0.2.1")
  expect("continue", "helo", conn, "client.example")
end

-- A message up to the end of its body.
function message(conn, sender)
  expect("continue", "mailfrom", conn, sender)
  expect("continue", "rcptto", conn, "<bob@example.net>")
  expect("continue", "data", conn)
  expect("continue", "header", conn, "Subject", "hello")
  expect("continue", "header", conn, "X-Gone", "x")
  expect("continue", "eoh", conn)
  expect("continue", "bodystring", conn, "text\r\n")
end
