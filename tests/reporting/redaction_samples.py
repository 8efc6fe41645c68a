"""Synthetic secrets and what merely looks like one; put together here, so that no scanner finds one in this file."""

from __future__ import annotations

import base64
import hashlib
import json
import string
import urllib.parse

LOWER, UPPER, DIGITS = string.ascii_lowercase, string.ascii_uppercase, string.digits
WORD = LOWER + UPPER + DIGITS


def chars(count: int, alphabet: str = WORD, seed: str = "") -> str:
    """Return characters that look random and are always the same; there are letters and digits among them."""
    digest = b"".join(
        hashlib.sha256(f"{seed}{number}".encode()).digest() for number in range(count // 32 + 1)
    )
    found = [alphabet[byte % len(alphabet)] for byte in digest[:count]]
    if count >= 8 and DIGITS[0] in alphabet and alphabet != DIGITS:
        found[3] = "7"
    return "".join(found)


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def b64url(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


JWT = ".".join(
    (b64url({"alg": "HS256", "typ": "JWT"}), b64url({"sub": "ann", "iat": 1}), chars(43, WORD + "-_"))
)
KEY_LINES = [chars(64, WORD + "+/", f"line {number}") for number in range(4)]
DASHES = "-" * 5
HEAD = f"{DASHES}BEGIN RSA PRIVATE KEY{DASHES}"
"""The head of a key alone."""


def pem(kind: str, newline: str = "\n", *, end: bool = True) -> str:
    lines = [f"{DASHES}BEGIN {kind}{DASHES}", *KEY_LINES, *([f"{DASHES}END {kind}{DASHES}"] if end else [])]
    return newline.join(lines)


PGP = pem("PGP PRIVATE KEY BLOCK").replace("\n", "\nComment: http://x.example (me)\n\n", 1)
"""A key with a header and an empty line before it."""

ANTHROPIC = "sk-" + "ant-" + "api03-" + chars(80, WORD + "-_")
OPENAI = "sk-" + chars(48, seed="openai")
OPENAI_PROJECT = "sk-" + "proj-" + chars(60, WORD + "-_", "project")
AWS = "AK" + "IA" + chars(16, UPPER + "234567", "aws")
GITHUB = "gh" + "p_" + chars(36, seed="github")
GOOGLE = "AI" + "za" + chars(35, WORD + "-_", "google")
SLACK = "xo" + "xb-" + chars(11, DIGITS, "a") + "-" + chars(24, seed="slack")
STRIPE = "sk_" + "live_" + chars(24, seed="stripe")
SLACK_HOOK = "https://hooks.sl" + "ack.com/services/T" + chars(8, UPPER) + "/B" + chars(8) + "/" + chars(24)
AWS_SECRET = chars(40, WORD + "/+", "aws secret")
HUNTER = "hunter" + "2"
USER_AND_PASSWORD = b64("ann:" + HUNTER)

# (rule, text, what of it must be gone)
POSITIVES: list[tuple[str, str, str]] = [
    ("anthropic_key", ANTHROPIC, ANTHROPIC[7:]),
    ("anthropic_key", f"export ANTHROPIC={ANTHROPIC}\n", ANTHROPIC[7:]),
    ("anthropic_key", f"'{ANTHROPIC}'", ANTHROPIC[7:]),
    ("anthropic_key", f"https://x.example/?k={ANTHROPIC}&b=1", ANTHROPIC[7:]),
    ("anthropic_key", f"({ANTHROPIC}), and so on", ANTHROPIC[7:]),
    ("openai_key", OPENAI, OPENAI[3:]),
    ("openai_key", f"key is {OPENAI}.", OPENAI[3:]),
    ("openai_key", OPENAI_PROJECT, OPENAI_PROJECT[3:]),
    ("openai_key", "sk-" + "svcacct-" + chars(50), chars(50)),
    ("openai_key", "sk-" + "or-v1-" + chars(64, "0123456789abcdef"), chars(64, "0123456789abcdef")),
    ("openai_key", f"a\\n{OPENAI}\\n", OPENAI[3:]),
    ("openai_key", f"?x%3D{OPENAI}", OPENAI[3:]),
    ("aws_key_id", AWS, AWS[4:]),
    ("aws_key_id", f"id={AWS}:x", AWS[4:]),
    ("aws_key_id", "AS" + "IA" + chars(16, UPPER, "sts"), chars(16, UPPER, "sts")),
    ("github_token", GITHUB, GITHUB[4:]),
    ("github_token", "gh" + "s_" + chars(36), chars(36)),
    ("github_token", "gh" + "o_" + chars(36), chars(36)),
    ("github_token", f"https://{GITHUB}@github.example/x.git", GITHUB[4:]),
    ("github_token", "github" + "_pat_" + chars(22) + "_" + chars(59), chars(59)),
    ("google_key", GOOGLE, GOOGLE[4:]),
    ("google_key", f"?key={GOOGLE}&x", GOOGLE[4:]),
    ("google_key", "ya" + "29." + chars(60, WORD + "-_"), chars(60, WORD + "-_")),
    ("google_key", "GOC" + "SPX-" + chars(28), chars(28)),
    ("slack_token", SLACK, SLACK[5:]),
    ("slack_token", "xo" + "xp-" + chars(40, seed="p"), chars(40, seed="p")),
    ("slack_token", "xa" + "pp-1-" + chars(40, seed="p"), chars(40, seed="p")),
    (
        "slack_token",
        "https://hooks.sl" + "ack.com/services/T" + chars(8, UPPER) + "/B" + chars(8) + "/" + chars(24),
        chars(24),
    ),
    ("stripe_key", STRIPE, STRIPE[8:]),
    ("stripe_key", "rk_" + "test_" + chars(24), chars(24)),
    ("stripe_key", "wh" + "sec_" + chars(32), chars(32)),
    ("jwt", JWT, JWT[3:]),
    ("jwt", f'{{"t":"{JWT}"}}', JWT[3:]),
    ("jwt", f"at {JWT} it", JWT[3:]),
    ("private_key", pem("RSA PRIVATE KEY"), KEY_LINES[0]),
    ("private_key", pem("RSA PRIVATE KEY"), KEY_LINES[3]),
    ("private_key", pem("PRIVATE KEY", "\\n"), KEY_LINES[3]),
    ("private_key", pem("EC PRIVATE KEY", "\r\n"), KEY_LINES[3]),
    ("private_key", pem("OPENSSH PRIVATE KEY", end=False), KEY_LINES[3]),
    ("private_key", pem("ENCRYPTED PRIVATE KEY", "\n    "), KEY_LINES[3]),
    ("private_key", pem("PRIVATE KEY", '\\n" +\n  "'), KEY_LINES[3]),
    ("private_key", pem("PRIVATE KEY", "\n  12→"), KEY_LINES[3]),
    (
        "private_key",
        pem("RSA PRIVATE KEY").replace(
            "KEY-----\n", "KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,0A1B\n\n", 1
        ),
        KEY_LINES[3],
    ),
    ("authorization", f"Authorization: Bearer {chars(32)}", chars(32)),
    ("authorization", f'-H "authorization: bearer {chars(20)}"', chars(20)),
    ("authorization", f"Authorization: Basic {USER_AND_PASSWORD}", USER_AND_PASSWORD),
    ("authorization", f"'Authorization': 'Token {chars(20)}'", chars(20)),
    ("authorization", f"Bearer {chars(40)}", chars(40)),
    ("authorization", f"Basic {USER_AND_PASSWORD}", USER_AND_PASSWORD),
    ("authorization", f"got BEARER {chars(40)} back", chars(40)),
    ("url_password", f"postgres://ann:{HUNTER}@db.example/x", HUNTER),
    ("url_password", f"redis://:{HUNTER}@localhost:6379/0", HUNTER),
    ("url_password", f"see https://ann:{HUNTER}@x.example.", HUNTER),
    ("url_password", f"amqp+ssl://ann:{HUNTER}%21@mq/", HUNTER),
    ("keyed_secret", f"DB_PASSWORD={HUNTER}", HUNTER),
    ("keyed_secret", "PASSWORD=swordfish\n", "swordfish"),
    ("keyed_secret", f"password: {HUNTER}\n", HUNTER),
    ("keyed_secret", 'password = "swordfish"', "swordfish"),
    ("keyed_secret", '{"password": "two words here", "x": 1}', "two words here"),
    ("keyed_secret", '"{\\"password\\": \\"two words\\", \\"x\\": 1}"', "two words"),
    ("keyed_secret", f"api_key = '{chars(24)}'", chars(24)),
    ("keyed_secret", f'apiKey: "{chars(24)}",', chars(24)),
    ("keyed_secret", f"x-api-key: {chars(24)}", chars(24)),
    ("keyed_secret", f"aws_secret_access_key = {chars(40, WORD + '/+')}", chars(40, WORD + "/+")),
    ("keyed_secret", f"client_secret={chars(24)}&grant=1", chars(24)),
    ("keyed_secret", f"auth_token => '{chars(24)}'", chars(24)),
    ("keyed_secret", f"pwd={HUNTER};", HUNTER),
    ("keyed_secret", f"f(token='{chars(24)}')", chars(24)),
    ("keyed_secret", f"AccountKey={chars(40)}==;Endpoint", chars(40)),
    # beside each other, coloured, escaped and encoded
    ("aws_secret_key", f"{AWS},{AWS_SECRET}", AWS_SECRET),
    ("aws_secret_key", f"ID\tSecret\n{AWS}\t{AWS_SECRET}", AWS_SECRET),
    ("aws_key_id", f"\x1b[33m{AWS}\x1b[0m", AWS[4:]),
    ("openai_key", f"\\u003d{OPENAI}", OPENAI[3:]),
    ("slack_token", SLACK_HOOK.replace("services", "workflows"), chars(24)),
    ("slack_token", SLACK_HOOK.replace("/", "\\/"), chars(24)),
    ("google_key", "1/" + "/0" + chars(60, WORD + "-_"), chars(60, WORD + "-_")),
    ("service_token", "glp" + "at-" + chars(20), chars(20)),
    ("service_token", "np" + "m_" + chars(36), chars(36)),
    ("service_token", "h" + "f_" + chars(34), chars(34)),
    # private keys as tools show them
    ("private_key", PGP, KEY_LINES[0]),
    ("private_key", PGP.replace("\n", "\r\n"), KEY_LINES[3]),
    ("private_key", pem("RSA PRIVATE KEY", "\n-"), KEY_LINES[3]),
    ("private_key", pem("RSA PRIVATE KEY", "\n# "), KEY_LINES[3]),
    ("private_key", pem("RSA PRIVATE KEY", "\nid_rsa-12-"), KEY_LINES[3]),
    ("private_key", pem("RSA PRIVATE KEY", '",\n  "'), KEY_LINES[3]),
    ("private_key", pem("RSA PRIVATE KEY", '\\n");\nsay("'), KEY_LINES[3]),
    ("private_key", urllib.parse.quote(pem("PRIVATE KEY"), safe="+/"), KEY_LINES[3]),
    ("private_key", f"---- BEGIN SSH2 PRIVATE KEY ----\nComment: me\n{KEY_LINES[0]}", KEY_LINES[0]),
    # headers
    ("authorization", f"Authorization: {chars(32)}", chars(32)),
    ("authorization", f"(b'Authorization', b'Token {chars(32)}')", chars(32)),
    ("authorization", f"Authorization%3A%20Bearer%20{chars(32)}", chars(32)),
    ("authorization", f"Bearer%20{chars(32)}", chars(32)),
    ("authorization", f"curl -u ann:{HUNTER} https://x", HUNTER),
    ("authorization", f'curl --user "ann:{chars(16)}" https://x', chars(16)),
    ("cookie", f"Cookie: theme=dark; sid={chars(16)}", chars(16)),
    ("cookie", f'"set-cookie": "sid={chars(16)}; Path=/"', chars(16)),
    ("url_password", f"https:\\/\\/ann:{HUNTER}@h\\/x", HUNTER),
    ("url_password", "postgres://ann:p@ss@w" + HUNTER + "@db/x", HUNTER),
    ("url_password", f"next=https%3A%2F%2Fann%3A{HUNTER}%40h%2F", HUNTER),
    # keys and their values
    ("keyed_secret", f"client_secret          = '{chars(24)}'", chars(24)),
    ("keyed_secret", 'export DB_PASSWORD="correct horse"', "correct horse"),
    ("keyed_secret", 'login(password="correct horse")', "correct horse"),
    ("keyed_secret", "{'user': 'ann', 'password': 'two words'}", "two words"),
    ("keyed_secret", "{'password': \"it's two\"}", "it's two"),
    ("keyed_secret", '{"password": "a \\"b\\" two words"}', "two words"),
    ("keyed_secret", json.dumps(json.dumps({"password": 'a "b" two\nwords'})), "words"),
    ("keyed_secret", json.dumps(json.dumps(json.dumps({"password": "two words"}))), "two words"),
    ("keyed_secret", f"{{\\u0022password\\u0022:\\u0022{HUNTER}\\u0022}}", HUNTER),
    ("keyed_secret", f"?password%3D{HUNTER}%26x", HUNTER),
    ("keyed_secret", f"%22password%22%3A%22{HUNTER}%22", HUNTER),
    ("keyed_secret", "https://h/?password=swordfish&x=1", "swordfish"),
    ("keyed_secret", "Server=h;Password=swordfish;Port=1", "swordfish"),
    ("keyed_secret", "A=1\\nDB_PASSWORD=swordfish\\nB=2", "swordfish"),
    ("keyed_secret", "DB_PASSWORD=sword,fish;1", "sword,fish;1"),
    ("keyed_secret", "DB_PASSWORD=1234\n", "1234"),
    ("keyed_secret", f"DB_PASS={HUNTER}", HUNTER),
    ("keyed_secret", f"SECRET_KEY_BASE={chars(32)}", chars(32)),
    ("keyed_secret", "password: |\n  swordfish\n", "swordfish"),
    ("keyed_secret", f"password = b'{HUNTER}'", HUNTER),
    ("keyed_secret", f'password = """{HUNTER}"""', HUNTER),
    ("keyed_secret", f"login --password {HUNTER} ann", HUNTER),
    ("keyed_secret", f"gh auth --token '{chars(24)}'", chars(24)),
    ("keyed_secret", "define('DB_PASSWORD', 'swordfish');", "swordfish"),
    ("keyed_secret", f"[(b'x-api-key', b'{chars(24)}')]", chars(24)),
    ("keyed_secret", "<password>swordfish</password>", "swordfish"),
    ("keyed_secret", f'{{"name": "DB_PASSWORD", "value": "{HUNTER}"}}', HUNTER),
    ("keyed_secret", f"- name: API_TOKEN\n  value: {chars(24)}\n", chars(24)),
    ("keyed_secret", f'<add key="ApiKey" value="{chars(24)}"/>', chars(24)),
]

NEGATIVES: list[str] = [
    "550e8400-e29b-41d4-a716-446655440000",
    "token_id: 550e8400-e29b-41d4-a716-446655440000",
    "sha256:" + hashlib.sha256(b"x").hexdigest(),
    hashlib.sha1(b"commit", usedforsecurity=False).hexdigest(),
    f"commit {hashlib.sha1(b'y', usedforsecurity=False).hexdigest()}\nAuthor: Ann",
    hashlib.md5(b"z", usedforsecurity=False).hexdigest(),
    "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n" + bytes(range(256)) * 4).decode(),
    base64.b64encode(hashlib.sha512(b"image").digest() * 20).decode(),
    '"integrity": "sha512-' + base64.b64encode(hashlib.sha512(b"npm").digest()).decode() + '"',
    "msg_01XFDUDYJgAACzvnptvVoYEL",
    "toolu_01A09q90qw90lq917835lq9",
    "srvtoolu_01WYG3ziw53XMcoyKL4XcZmE",
    "req_018EeWyXxfu5pfWkrYcMdjWG",
    "item-12 turn-3 request-7 approval-1 auth-2",
    "ses_01jd8f2q7y3k5m9n0p2r4t6v8x",
    "It costs $1,234.56, or 99.99 EUR, at 12:30.",
    "Prices: 4.99, 5.99; total: 10.98",
    "token = get_token()",
    "token = os.environ['API_TOKEN']",
    'api_key=os.environ["ANTHROPIC_API_KEY"]',
    "apiKey: process.env.API_KEY2,",
    "password: str",
    "password: str = Field(min_length=8)",
    "def login(user: str, password: str | None = None) -> Token:",
    "secret: Optional[str] = None",
    "max_tokens=1024",
    "max_tokens: 200000",
    '{"input_tokens": 12345678, "output_tokens": 12}',
    '"next_page_token": "CAUQAA1234567890"',
    "The password must be at least 8 characters.",
    "password: required",
    "Enter password:",
    "if token == other_token2: pass",
    "token::new(7)",
    "tokens: 128000",
    "key: value1234",
    "monkey = banana12",
    "primary_key=True, foreign_key=user_id2",
    "sort_key: lambda x: x.key",
    "secret = settings.secret2",
    "passwords are hashed with bcrypt2",
    "PASSWORD=$PASSWORD",
    "PASSWORD=${DB_PASSWORD:-none}",
    "password={password}",
    "bearer of good news and friendship",
    "the bearer authentication-mechanism-description",
    "basic authentication",
    "Basic understanding of mathematics",
    "Authorization: required",
    "https://example.com:8080/path?x=1#y",
    "http://localhost:3000/a@b",
    "postgres://ann:${PASSWORD}@db/x",
    "https://{user}:{password}@host/",
    "git@github.example:ann/x.git",
    "ssh://git@github.example/ann/x",
    "from sk-learn import disk-usage-monitor-daemon",
    "task-a1b2c3d4e5f6a7b8c9d0e1f2",
    "desk-550e8400e29b41d4a716446655440000",
    "sk-ant-your-key-here",
    "sk-...",
    "risk_test_abcdefghijklmnop = 1",
    "AKIA is the prefix of access keys",
    "XAKIA" + chars(16, UPPER),
    "eyJhbGciOiJIUzI1NiJ9",
    b64url({"cursor": 12, "page": "x" * 90}),
    "SELECT * FROM t WHERE ghp_id = 3 AND xox_b = 4",
    "-----BEGIN CERTIFICATE-----\n" + KEY_LINES[0],
    "-----BEGIN PUBLIC KEY-----\n" + KEY_LINES[0],
    f"A file that starts with {DASHES}BEGIN RSA PRIVATE KEY{DASHES} is a key.",
    "for (let i = 0; i < tokens.length; i++) { key = tokens[i]; }",
    "2026-05-24T18:40:00.123456Z",
    "192.168.100.200:5432, fe80::1ff:fe23:4567:890a",
    "x = {'k': 1, 'token': token, 'secret': secret}",
    '<input type="password" name="pwd">',
    "docker run -e TOKEN image:latest@sha256:" + hashlib.sha256(b"i").hexdigest(),
    "lorem ipsum dolor sit amet, consectetur adipiscing elit",
    # placeholders and code
    'export TOKEN="$TOKEN"',
    'TOKEN="$(gh auth token)"',
    'password="${DB_PASSWORD}"',
    'token="{{ secrets.TOKEN }}"',
    'api_key="<your key here>"',
    'connect(password="%s")',
    'f(token=f"{token}")',
    'API_KEY="***"',
    "tool --password $PASSWORD",
    "tool --token TOKEN --api-key FILE",
    "--password is asked for",
    "ssh --private-key ~/.ssh/id_ed25519",
    "SSH_PRIVATE_KEY=/run/secrets/key1",
    "USE_TOKEN=true",
    "for token, secret in pairs: pass",
    "fields = ('password', 'created_at2')",
    "List<Token> tokens2; Optional<Secret> secret2",
    "tests: 12, pass: 1234567, fail: 0",
    "bypass=1234567",
    "docker run -u 1000:1000 image",
    "docker run --user www-data:www-data image",
    "git push -u origin main:main",
    "fuzz -u https://x.example:8080/a1",
    "cookies: 12 chocolate",
    "the cookie: a biscuit",
    '{"name": "max_tokens", "value": 4096}',
    '{"name": "DB_PASSWORD", "value": ""}',
    "run(ANTHROPIC_API_KEY=KEY, TERM=1, MY_TOKEN=MY_TOKEN)",
    'NO_CREDENTIALS = "The call was not finished"',
    '_HEADER_SECRET = r"[a-z]{4,8}"',
    "`api_key=`, `auth_token=`, `x`",
    'print("token=" + repr(token2))',
    "{'Set-Cookie', 'Cookie'} and seek(cookie, whence=0)",
    "'/etc/passwd', 'utf8'",
    "('CURLOPT_PASSWORD', 'CURLOPT_READDATA')",
    '{"name": "password", "type": "string"}',
    '<input name="user" value="ann1234567">',
    "Authorization: process.env.AUTH_HEADER_VALUE_2",
    "Authorization: AccessTokenFromTheEnvironment",
    f'if head == "{DASHES}BEGIN PRIVATE KEY{DASHES}": return load(path)',
    "npm_config_registry pypi-server hf_hub_download",
    "git_commit: " + hashlib.sha1(b"c", usedforsecurity=False).hexdigest(),
    "AKIA, " + hashlib.sha1(b"d", usedforsecurity=False).hexdigest(),
    "toolu_01A09q90qw90lq917835lq9 call_a1B2c3D4e5F6g7H8i9J0k1L2 chatcmpl-A1b2C3d4E5f6G7h8I9j0K1l2M3n4O",
    "resp_" + hashlib.sha256(b"r").hexdigest()[:48],
]

CARD = "4111 1111 " + "1111 1111"
IBAN = "DE89 3704 " + "0044 0532 0130 00"
PERSONAL: list[tuple[str, str, str]] = [
    ("email", "write to ann.b+c@mail.example.com.", "ann.b+c@mail.example.com"),
    ("email", "<ann@example.org>", "ann@example.org"),
    ("phone", "call +1 415 555 0123 now", "+1 415 555 0123"),
    ("phone", "(415) 555-0123", "(415) 555-0123"),
    ("phone", "415-555-0123", "415-555-0123"),
    ("phone", "+49 30 901820 12", "+49 30 901820 12"),
    ("phone", "tel: +44 (0)20 7946 0958;", "+44 (0)20 7946 0958"),
    ("card", f"card {CARD}, exp", CARD),
    ("card", "5500" + "005555555559", "5500" + "005555555559"),
    ("card", "3782-822463-" + "10005", "3782-822463-" + "10005"),
    ("us_ssn", "SSN 123-45-" + "6789.", "123-45-" + "6789"),
    ("iban", f"to {IBAN} PLEASE", IBAN),
    ("iban", "GB82WEST" + "12345698765432", "GB82WEST" + "12345698765432"),
    ("iban", "FR14 2004 1010 0505 " + "0001 3M02 606", "FR14 2004 1010 0505 " + "0001 3M02 606"),
]

NOT_PERSONAL: list[str] = [
    "image@2x.png",
    "git@github.example.com",
    "@decorator and @types/node",
    "pkg@1.2.3",
    "4111 1111 1111 1112",  # fails the check digit
    "1748112000123",  # milliseconds
    "0000 0000 0000 0000",
    "550e8400-e29b-41d4-a716-446655440000",
    "000-12-3456, 666-12-3456, 123-00-4567, 123-45-0000, 900-12-3456",
    "2026-05-24, 12:30:45, 192.168.100.200",
    "version 1.2.3.4 build 20260524",
    "DE89 3704 0044 0532 0130 09",  # fails the check digits
    "XX89 3704 0044 0532 0130 00",  # no country
    "$1,234,567.89 and 12345678",
    "toolu_01A09q90qw90lq917835lq9",
    "lines 100-200, pages 300-400",
]
