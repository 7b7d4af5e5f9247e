# Whether the first DKIM signature of each message verifies.
#
#     python3 verify.py KEYS MESSAGE...
#
# KEYS has lines of a name and a TXT record, as opendkim's TestPublicKeys.
import sys

import dkim

keys = dict(line.strip().split(" ", 1) for line in open(sys.argv[1]))


def look_up(name, timeout=5):
    return keys.get(name.decode().rstrip("."), "").encode()


for path in sys.argv[2:]:
    message = open(path, "rb").read()
    try:
        verified = dkim.DKIM(message, minkey=1024).verify(dnsfunc=look_up)
    except dkim.DKIMException as error:
        sys.exit(f"{path}: {type(error).__name__}: {error}")
    if not verified:
        sys.exit(f"{path}: the signature does not verify")
