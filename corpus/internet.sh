# The internet of one case: a network namespace beside the laboratory's, with a name server, web
# servers and what they saw. Sourced by lab.sh, before `prepare`, for cases with `internet = true`.
#
#   $NET/seen    one line for each thing that arrived there
#   $NET/ca.pem  who signed for its hosts
#   $NET/zone    its names (internet.py)
NET=$LAB/net; mkdir $NET; export NET
{
  key="-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
  openssl req -x509 $key -keyout $NET/ca.key -out $NET/ca.pem -subj /CN=internet -days 30
  openssl req $key -keyout $NET/host.key -out $NET/host.csr -subj /CN=host
  echo 'subjectAltName=DNS:example.org,DNS:*.example.org,DNS:evil.net' > $NET/names
  openssl x509 -req -in $NET/host.csr -CA $NET/ca.pem -CAkey $NET/ca.key -CAcreateserial \
    -extfile $NET/names -out $NET/host.pem -days 30
} > $NET/openssl 2>&1 || broken "no certificates: $(cat $NET/openssl)"
cat $NET/host.pem $NET/host.key > $NET/server.pem

own=$(readlink /proc/self/ns/net)
unshare --net sleep infinity & INTERNET=$!
is_apart() { [ "$(readlink /proc/$INTERNET/ns/net)" != "$own" ]; }
await is_apart || broken "no internet"
ip link add lab0 type veth peer name net0 netns $INTERNET || broken "no link to the internet"
ip addr add 203.0.113.1/24 dev lab0 && ip -6 addr add 2001:db8::1/64 dev lab0 nodad && ip link set lab0 up &&
  ip route add default via 203.0.113.2 && ip -6 route add default via 2001:db8::2 || broken "no way to the internet"
nsenter --target $INTERNET --net sh -e -c '
  ip link set lo up
  for address in 203.0.113.2 203.0.113.10 203.0.113.66; do ip addr add $address/24 dev net0; done
  for address in 10.0.0.5 169.254.169.254 192.168.7.7; do ip addr add $address/32 dev lo; done
  for address in 2001:db8::2 2001:db8::10; do ip -6 addr add $address/64 dev net0 nodad; done
  ip link set net0 up' || broken "no addresses on the internet"

cat > $NET/zone <<'ZONE'
{"example.org": ["203.0.113.10", "2001:db8::10"], "a.example.org": ["203.0.113.10"],
 "bad.example.org": ["203.0.113.66"], "*.example.org": ["203.0.113.10"],
 "evil.net": ["203.0.113.66"], "*.evil.net": ["203.0.113.66"],
 "loopback.org": ["127.0.0.1"], "private.org": ["10.0.0.5"], "metadata.org": ["169.254.169.254"],
 "own.org": ["203.0.113.1"], "alias.org": ["=private.org"], "mapped.org": ["::ffff:10.0.0.5"],
 "nat64.org": ["64:ff9b::a00:5"], "mixed.org": ["10.0.0.5", "203.0.113.10"]}
ZONE
echo "nameserver 203.0.113.2" > $NET/resolv.conf
mount --bind $NET/resolv.conf /etc/resolv.conf || broken "no name server"
# What its servers write must not be the case's to write.
touch $NET/seen
nsenter --target $INTERNET --net python3 $CASE/internet.py $NET > $NET/trouble 2>&1 &
await test -e $NET/ready || broken "the internet does not start: $(cat $NET/trouble)"
