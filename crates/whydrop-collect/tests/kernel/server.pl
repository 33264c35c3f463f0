# Listens on a port with a backlog and never accepts: server.pl PORT BACKLOG
use strict;
use Socket;
my ($port, $backlog) = @ARGV;
$| = 1;
socket(my $socket, PF_INET, SOCK_STREAM, 0) or die "socket: $!";
setsockopt($socket, SOL_SOCKET, SO_REUSEADDR, 1) or die "setsockopt: $!";
bind($socket, sockaddr_in($port, INADDR_ANY)) or die "bind: $!";
listen($socket, $backlog) or die "listen: $!";
print "ready\n";
sleep 600;
