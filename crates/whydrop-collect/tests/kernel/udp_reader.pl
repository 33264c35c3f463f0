# Binds a UDP port with a small buffer, never reads, and uses all the CPU it gets: udp_reader.pl PORT
use strict;
use Socket;
my ($port) = @ARGV;
$| = 1;
socket(my $socket, PF_INET, SOCK_DGRAM, 0) or die "socket: $!";
setsockopt($socket, SOL_SOCKET, SO_RCVBUF, 4096) or die "setsockopt: $!";
bind($socket, sockaddr_in($port, INADDR_ANY)) or die "bind: $!";
print "ready\n";
1 while 1;
