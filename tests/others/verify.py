# Whether the first DKIM signature of a message verifies.
#
#     python3 verify.py KEYS MESSAGE
#
# KEYS has lines of a name and a TXT record, as opendkim's TestPublicKeys.
import sys

import dkim

keys = dict(line.strip().split(" ", 1) for line in open(sys.argv[1]))


def look_up(name, timeout=5):
    return keys.get(name.decode().rstrip("."), "").encode()


message = open(sys.argv[2], "rb").read()
try:
    verified = dkim.DKIM(message, minkey=1024).verify(dnsfunc=look_up)
except dkim.DKIMException as error:
    sys.exit(f"{type(error).__name__}: {error}")
sys.exit(None if verified else "the signature does not verify")
