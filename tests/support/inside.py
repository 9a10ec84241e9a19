"""
What leads inside: addresses that are not public, every spelling of them, names, and URLs that hide them.

Written down one by one, from the IANA's registries and from what has been used
against others; nothing of it is worked out by what is tested.
"""

from __future__ import annotations

#: This machine, private networks and metadata services, as only some programs write their addresses.
SPELLINGS = (
    *("127.1", "127.0.1", "2130706433", "0x7f000001", "0X7F000001", "0x7f.1", "0x7f.0.0.1", "0x7f.0x0.0x0.0x1"),
    *("0177.0.0.1", "0177.1", "017700000001", "0x7f.0.1", "127.0x1", "0", "0x0", "00", "0.0", "0.0.0"),
    *("127.0.0.01", "127.00.0.1", "127.000.000.001", "10.1", "167772161", "0x0a000001"),
    *("2852039166", "0xa9fea9fe", "0xa9.0xfe.0xa9.0xfe", "0251.0376.0251.0376", "169.254.43518", "169.16689662"),
    *("3232235777", "192.168.257", "4294967295", "037777777777", "0xffffffff", "127.0.0.0x1", "0x", "127.0.0.0x"),
)

#: Addresses inside to who drops zeros, and public ones to who reads octal numbers, as the C library does.
OCTAL = {"0127.0.0.1": "87.0.0.1", "010.0.0.1": "8.0.0.1"}

#: And in letters and digits that are no ASCII.
UNICODE = (
    *(
        "①②⑦.⓪.⓪.①",
        "127。0。0。1",
        "127．0．0．1",
        "127｡0｡0｡1",
        "１２７.0.0.1",
        "𝟏𝟐𝟕.0.0.1",
        "127.0.0.①",
        "①⑥⑨。②⑤④。①⑥⑨。②⑤④",
    ),
    *(
        "ⓛocalhost",
        "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ",
        "ｌｏｃａｌｈｏｓｔ",
        "localhost。",
        "loc\u00adalhost",
        "local\u200bhost",
        "metadata。google。internal",
    ),
)

#: Names that say themselves that they are not of the internet.
NAMES = (
    *("localhost", "LOCALHOST", "LocalHost", "localhost.", "LOCALHOST.", "localhost.localdomain", "a.localhost"),
    *("metadata.google.internal", "metadata.google.internal.", "instance-data.ec2.internal", "host.docker.internal"),
    *("kubernetes.default.svc.cluster.local", "printer.local", "router.lan", "wiki.intranet", "nas.home.arpa"),
    *("metadata", "kubernetes", "db", "ip6-localhost", "kubernetes.default.svc"),
)

#: Names that say nothing, and lead inside by what a name server answers.
PUBLIC_NAMES = (
    *("localtest.me", "lvh.me", "127.0.0.1.nip.io", "127-0-0-1.sslip.io", "169.254.169.254.nip.io", "10.0.0.1.xip.io"),
    *("metadata.partner.example", "kubernetes.partner.example", "xn--bcher-kva.example"),
)

#: Of IPv4.
FOUR = (
    *("127.0.0.1", "127.255.255.254", "0.0.0.0", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1"),
    *("169.254.169.254", "169.254.170.2", "100.64.0.1", "100.100.100.200", "168.63.129.16", "192.0.0.1", "192.0.0.192"),
    *("192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "192.88.99.1", "192.31.196.1", "192.52.193.1"),
    *("192.175.48.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255"),
)

#: Of IPv6, those that are an IPv4 address, or would be taken to one: mapped, compatible, NAT64, 6to4, Teredo, ISATAP.
EMBEDDED = (
    *("::ffff:127.0.0.1", "::ffff:7f00:1", "::ffff:169.254.169.254", "::ffff:a00:1", "::ffff:0:127.0.0.1"),
    *("::127.0.0.1", "::7f00:1", "::169.254.169.254"),
    *("64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b::10.0.0.1", "64:ff9b::8.8.8.8", "64:ff9b:1::a9fe:a9fe"),
    *("2002:7f00:1::", "2002:a9fe:a9fe::", "2002:a00:1::1", "2002:808:808::1"),
    *("2001:0:7f00:1::", "2001:0:808:808:0:0:80ff:fffe", "2001:0:808:808:0:0:f7f7:f7f7"),
    *("2606:4700::5efe:10.0.0.1", "2606:4700::200:5efe:169.254.169.254", "fe80::5efe:10.0.0.1"),
)

#: Of IPv6, the others.
SIX = (
    *("::1", "::", "0:0:0:0:0:0:0:1", "0000:0000:0000:0000:0000:0000:0000:0001", "::0:1"),
    *("fe80::1", "febf::1", "fec0::1", "fc00::1", "fd00:ec2::254", "fd20:ce::254", "fdff:ffff::1"),
    *("ff02::1", "ff0e::1", "100::1", "100:0:0:1::1", "2001:db8::1", "3fff::1", "5f00::1", "2001:20::1"),
    *("2001:2::1", "2001:10::1", "2001:1::1", "4000::1", "2620:4f:8000::1", "200::1", "8000::1", "e000::1"),
)

#: With a zone.
ZONED = ("fe80::1%25lo", "fe80::1%25eth0", "fe80::1%251", "::1%25lo", "fe80::1%lo", "2606:4700::1111%25eth0")

_REST = "ffff:ffff:ffff:ffff:ffff"
#: Ranges that are not public: the first and the last address of each, and beside them those that are.
RANGES = (
    ("0.0.0.0", "0.255.255.255", None, "1.0.0.0"),
    ("10.0.0.0", "10.255.255.255", "9.255.255.255", "11.0.0.0"),
    ("100.64.0.0", "100.127.255.255", "100.63.255.255", "100.128.0.0"),
    ("127.0.0.0", "127.255.255.255", "126.255.255.255", "128.0.0.0"),
    ("168.63.129.16", "168.63.129.16", "168.63.129.15", "168.63.129.17"),
    ("169.254.0.0", "169.254.255.255", "169.253.255.255", "169.255.0.0"),
    ("172.16.0.0", "172.31.255.255", "172.15.255.255", "172.32.0.0"),
    ("192.0.0.0", "192.0.0.255", "191.255.255.255", "192.0.1.0"),
    ("192.0.2.0", "192.0.2.255", "192.0.1.255", "192.0.3.0"),
    ("192.31.196.0", "192.31.196.255", "192.31.195.255", "192.31.197.0"),
    ("192.52.193.0", "192.52.193.255", "192.52.192.255", "192.52.194.0"),
    ("192.88.99.0", "192.88.99.255", "192.88.98.255", "192.88.100.0"),
    ("192.168.0.0", "192.168.255.255", "192.167.255.255", "192.169.0.0"),
    ("192.175.48.0", "192.175.48.255", "192.175.47.255", "192.175.49.0"),
    ("198.18.0.0", "198.19.255.255", "198.17.255.255", "198.20.0.0"),
    ("198.51.100.0", "198.51.100.255", "198.51.99.255", "198.51.101.0"),
    ("203.0.113.0", "203.0.113.255", "203.0.112.255", "203.0.114.0"),
    ("224.0.0.0", "255.255.255.255", "223.255.255.255", None),
    ("::", f"1fff:ffff:ffff:{_REST}", None, "2000::"),
    ("2001::", f"2001:1ff:ffff:{_REST}", f"2000:ffff:ffff:{_REST}", "2001:200::"),
    ("2001:db8::", f"2001:db8:ffff:{_REST}", f"2001:db7:ffff:{_REST}", "2001:db9::"),
    ("2002::", f"2002:ffff:ffff:{_REST}", f"2001:ffff:ffff:{_REST}", "2003::"),
    ("2620:4f:8000::", f"2620:4f:8000:{_REST}", f"2620:4f:7fff:{_REST}", "2620:4f:8001::"),
    ("3fff::", f"3fff:fff:ffff:{_REST}", f"3ffe:ffff:ffff:{_REST}", "3fff:1000::"),
    ("4000::", f"ffff:ffff:ffff:{_REST}", f"3fff:ffff:ffff:{_REST}", None),
)
EDGES = tuple(dict.fromkeys(address for first, last, _, _ in RANGES for address in (first, last)))
NEIGHBOURS = tuple(address for _, _, below, above in RANGES for address in (below, above) if address is not None)

#: Every address here.
ADDRESSES = tuple(dict.fromkeys((*FOUR, *EMBEDDED, *SIX, *EDGES)))

#: Whole URLs in which one reader may find 127.0.0.1 and another partner.example, or which may smuggle something in.
TRICKS = (
    "http://user:pw@127.0.0.1/",
    "http://partner.example@127.0.0.1/",
    "http://partner.example:80@127.0.0.1/",
    "http://@127.0.0.1/",
    "http://@partner.example/",
    "http://127.0.0.1\\@partner.example/",
    "http://partner.example\\@127.0.0.1/",
    "http:\\\\127.0.0.1\\",
    "http://127.0.0.1#@partner.example/",
    "http://partner.example#@127.0.0.1/",
    "http://127.0.0.1?@partner.example/#",
    "http://127.0.0.1:80@partner.example/",
    "http://127.0.0.1:80:80@partner.example/",
    "http://127.0.0.1%20@partner.example/",
    "http://[::1]:80@partner.example/",
    "http://[::1]@partner.example/",
    "http://[::1%25@partner.example]/",
    "http://[::1].partner.example/",
    "http://[::1",
    "http://::1/",
    "http://[127.0.0.1]/",
    "http://[v1.127.0.0.1]/",
    "http:///127.0.0.1/",
    "http:////127.0.0.1/",
    "http:/127.0.0.1/",
    "http:127.0.0.1/",
    "//127.0.0.1/",
    "127.0.0.1/",
    "127.0.0.1:80/",
    "http://127.0.0.1%00.partner.example/",
    "http://127.0.0.1%2f.partner.example/",
    "http://127.0.0.1%2F@partner.example/",
    "http://127.0.0.1%23.partner.example/",
    "http://127.0.0.1%5c.partner.example/",
    "http://%31%32%37.0.0.1/",
    "http://127%2e0%2e0%2e1/",
    "http://%6cocalhost/",
    "http://partner%0d%0a.example/",
    "http://partner.example%0d%0aHost:%20127.0.0.1/",
    "http://partner.example:0/",
    "http://partner.example:22/",
    "http://partner.example:99999/",
    "http://partner.example:-1/",
    "http://partner.example:80:22/",
    "http://partner.example:８０/",
    "http://partner.example:port/",
    "http://127.0.0\t.1/",
    "http://127.0.0.1\t/",
    "http://127.0.0.1\n.partner.example/",
    "ht\ntp://127.0.0.1/",
    " http://127.0.0.1/",
    "\thttp://127.0.0.1/",
    "http://127.0.0.1\0.partner.example/",
    "http://partner.example/\r\nHost: 127.0.0.1",
    "http://127.0.0.1 .partner.example/",
    "http://127.0.0.1../",
    "http://partner.example../",
    "http://.127.0.0.1/",
    "http://partner..example/",
    "http://*.partner.example/",
    "http://127.0.0.1;.partner.example/",
    "http://127.0.0.1,partner.example/",
    "http://127.0.0.1&@partner.example/",
    "http://127.0.0.1|partner.example/",
    "http://<127.0.0.1>/",
    "http://{127.0.0.1}/",
    "http://partner.example//127.0.0.1:port/",
    "http://partner.example/.//127.0.0.1:port/",
)

#: URLs of other schemes.
SCHEMES = (
    *("file:///etc/passwd", "file://127.0.0.1/etc/passwd", "file:/etc/passwd", "gopher://127.0.0.1:6379/_FLUSHALL"),
    *(
        "ftp://127.0.0.1/",
        "tftp://127.0.0.1/",
        "sftp://127.0.0.1/",
        "dict://127.0.0.1:11211/stats",
        "ldap://127.0.0.1/",
    ),
    *("unix:///var/run/docker.sock", "http+unix://%2Fvar%2Frun%2Fdocker.sock/info", "unix:/var/run/docker.sock"),
    *("javascript:alert(1)", "javascript://127.0.0.1/%0aalert(1)", "data:text/plain,hello", "ws://127.0.0.1/"),
    *("wss://127.0.0.1/", "jar:http://127.0.0.1!/x", "netdoc:///etc/passwd", "view-source:http://127.0.0.1/"),
    *("blob:http://127.0.0.1/x", "about:blank", "mailto:me@partner.example", "smb://127.0.0.1/", "ssh://127.0.0.1/"),
    *(
        "httpx://127.0.0.1/",
        "https+x://127.0.0.1/",
        "x-http://127.0.0.1/",
        "phar://x",
        "expect://id",
        "h2c://127.0.0.1/",
    ),
)

#: Ports on which something else than a web server listens.
PORTS = (
    *(1, 7, 19, 21, 22, 23, 25, 53, 110, 111, 135, 139, 143, 389, 445, 465, 514, 587, 636, 873, 990, 993, 1023, 1433),
    *(1521, 2049, 2181, 2375, 2376, 2379, 2380, 3128, 3306, 3389, 5432, 5672, 5900, 5984, 6000, 6379, 6443, 8500, 9042),
    *(9092, 9200, 9300, 10250, 10255, 11211, 15672, 27017),
)


def written(address: str) -> str:
    """The address as the host of a URL."""
    return f"[{address}]" if ":" in address else address


#: Every literal address, as the host of a URL.
LITERALS = tuple(map(written, ADDRESSES))

#: Every URL here, to which nothing may ever be sent.
URLS = (
    *(f"http://{host}/" for host in (*LITERALS, *map(written, ZONED), *SPELLINGS, *OCTAL, *UNICODE, *NAMES)),
    *TRICKS,
    *SCHEMES,
)
