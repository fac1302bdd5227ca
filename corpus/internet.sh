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
 "turns": {"turn.org": [["203.0.113.10"], ["127.0.0.1"], ["::1"]], "twist.org": [["203.0.113.10"], ["=private.org"], ["::ffff:10.0.0.5"], ["=alias.org"]]},
 "six.org": ["2001:db8::10"], "half.org": ["fd00::5", "10.0.0.5", "203.0.113.10"], "half6.org": ["10.0.0.5", "2001:db8::10"],
 "silent.org": ["2001:db8:dead::1", "203.0.113.10"], "silent4.org": ["198.51.100.7", "198.51.100.8", "2001:db8::10", "203.0.113.10"],
 "pypi.org": ["203.0.113.10"], "files.pythonhosted.org": ["203.0.113.10"], "github.com": ["203.0.113.10"], "gitlab.com": ["203.0.113.10"],
 "api.anthropic.com": ["203.0.113.10"], "inner.example.com": ["192.168.7.7"],
 "nat64.org": ["64:ff9b::a00:5"], "mixed.org": ["10.0.0.5", "203.0.113.10"]}
ZONE
echo "nameserver 203.0.113.2" > $NET/resolv.conf
mount --bind $NET/resolv.conf /etc/resolv.conf || broken "no name server"
# What its servers write must not be the case's to write.
touch $NET/seen
nsenter --target $INTERNET --net python3 $CASE/internet.py $NET > $NET/trouble 2>&1 &
await test -e $NET/ready || broken "the internet does not start: $(cat $NET/trouble)"

# Two of its hosts with an ssh server each, for cases that want them: a key of the user's opens both,
# the user knows both, and $NET/ssh/NAME says who logged in.
ssh_servers() {
  local name
  mkdir $NET/ssh && mkdir -p /run/sshd && chmod 755 /run/sshd
  nsenter --target $INTERNET --net sh -c 'echo 0 > /proc/sys/net/ipv4/ip_unprivileged_port_start' || broken "no port 22"
  rm -f "$HOME/.ssh/id_ed25519"; ssh-keygen -q -t ed25519 -N '' -C me@lab -f "$HOME/.ssh/id_ed25519" || broken "no key"
  cp "$HOME/.ssh/id_ed25519.pub" $NET/ssh/authorized
  cp "$HOME/.ssh/id_ed25519.pub" $LAB/me.pub
  for name in example.org:203.0.113.10:ed25519 evil.net:203.0.113.66:ecdsa; do
    local address=${name#*:} kind=${name##*:}; address=${address%:*}; name=${name%%:*}
    ssh-keygen -q -t $kind -N '' -C host -f $NET/ssh/$name.key || broken "no key of $name"
    echo "$name $(cat $NET/ssh/$name.key.pub)" >> "$HOME/.ssh/known_hosts"
    printf '%s\n' "HostKey $NET/ssh/$name.key" "ListenAddress $address" "AuthorizedKeysFile $NET/ssh/authorized" \
      'StrictModes no' 'UsePAM no' 'PasswordAuthentication no' 'KbdInteractiveAuthentication no' \
      'PermitRootLogin yes' 'PidFile none' 'Subsystem sftp internal-sftp' > $NET/ssh/$name.conf
  done
  [ "$(id -u)" != 0 ] || chown -R $WHO:$WHO "$HOME/.ssh" $NET/ssh
  chmod 600 "$HOME/.ssh/known_hosts"
  for name in example.org evil.net; do
    nsenter --target $INTERNET --net "${AS[@]}" /usr/sbin/sshd -D -e -f $NET/ssh/$name.conf 2> $NET/ssh/$name &
    await grep -q 'Server listening' $NET/ssh/$name || broken "$(cat $NET/ssh/$name)"
  done
}
