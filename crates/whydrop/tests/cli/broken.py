# Sends FRAMES broken frames from v0, drawn with a fixed seed: whole packets of every layer, cut short,
# with bytes turned, with lengths that lie.
import random
import socket
import struct

random.seed(1)


def checksum(data):
    data += bytes(len(data) % 2)
    total = sum(struct.unpack('!%dH' % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def ipv4(protocol, payload, options=b''):
    words = 5 + len(options) // 4
    head = struct.pack('!BBHHHBBH4s4s', 0x40 | words, 0, words * 4 + len(payload), random.randrange(65536),
                       random.choice([0, 0, 0, 0x2000, 0x2001, 1, 0x1fff]), random.choice([64, 1, 0]), protocol, 0,
                       socket.inet_aton('10.96.0.1'), socket.inet_aton('10.96.0.2')) + options
    return head[:10] + struct.pack('!H', checksum(head)) + head[12:] + payload


def ipv6(next_header, payload):
    return struct.pack('!IHBB16s16s', 6 << 28, len(payload), next_header, random.choice([64, 1, 0]),
                       socket.inet_pton(socket.AF_INET6, 'fd96::1'),
                       socket.inet_pton(socket.AF_INET6, 'fd96::2')) + payload


def udp(payload):
    return struct.pack('!HHHH', 9, random.choice([9, 53, 4789, 500]), 8 + len(payload), 0) + payload


def tcp(payload):
    flags = random.choice([0, 1, 2, 4, 16, 18, 41, 63, 255])
    return struct.pack('!HHIIBBHHH', 9, 80, 1, 2, random.choice([0x50, 0x00, 0xf0, 0x80]), flags, 9, 0, 0) + payload


def noise(most=64):
    return random.randbytes(random.randrange(most))


def transport():
    kind = random.randrange(8)
    if kind == 0: return 17, udp(noise())
    if kind == 1: return 6, tcp(noise())
    if kind == 2: return 1, struct.pack('!BBHI', random.choice([0, 3, 5, 8, 11, 200]), 0, 0, 0) + noise()
    if kind == 3: return 58, struct.pack('!BBHI', random.choice([1, 2, 128, 133, 134, 135, 200]), 0, 0, 0) + noise()
    if kind == 4: return 132, noise()
    if kind == 5: return 47, struct.pack('!HH', random.choice([0, 0x2000, 0x6558]), 0x0800) + noise()
    if kind == 6: return 4, ipv4(17, udp(noise()))
    return random.randrange(256), noise()


def extensions(protocol, payload):
    for i in range(random.choice([0, 0, 1, 3, 40])):
        kind = random.choice([0, 43, 44, 60])
        payload = struct.pack('!BBHI', protocol, 0, random.randrange(65536), random.randrange(1 << 32)) + payload
        protocol = kind
    return protocol, payload


def network():
    protocol, payload = transport()
    kind = random.randrange(6)
    if kind < 2: return 0x0800, ipv4(protocol, payload, random.randbytes(4 * random.choice([0, 0, 1, 10])))
    if kind < 4: return 0x86dd, ipv6(*extensions(protocol, payload))
    if kind == 4: return 0x0806, struct.pack('!HHBBH', 1, 0x0800, 6, 4, random.randrange(4)) + noise(24)
    return random.choice([0x88cc, 0x8847, 0x8864, 0x8863, 0x0004, random.randrange(65536)]), noise()


def frame(mac):
    kind, payload = network()
    for i in range(random.choice([0, 0, 0, 1, 2, 9])):
        payload = struct.pack('!HH', random.randrange(65536), kind) + payload
        kind = random.choice([0x8100, 0x88a8])
    data = bytearray(payload)
    for i in range(random.choice([0, 0, 1, 3])):
        if data: data[random.randrange(len(data))] = random.randrange(256)
    if data and random.random() < 0.3: del data[random.randrange(len(data)):]
    to = random.choice([mac, mac, mac, mac, b'\xff' * 6, bytes([1, 0, 94, 0, 0, 1]), random.randbytes(6)])
    return (to + b'\x02\0\0\0\0\1' + struct.pack('!H', kind) + bytes(data))[:1514]


out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
out.bind(('v0', 0))
peer = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
peer.bind(('v1', 0))
mac = peer.getsockname()[4]
peer.close()
for number in range(FRAMES):
    out.send(frame(mac))
