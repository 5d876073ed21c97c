package egress_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"countersign/egress"
)

// deniedAddrs must be refused under the zero policy.
var deniedAddrs = []string{
	"0.0.0.0", "0.0.0.1", "0.255.255.255", "10.0.0.0", "10.1.2.3", "10.255.255.255", "100.64.0.1", "100.100.100.200",
	"100.127.255.255", "127.0.0.1", "127.0.0.2", "127.1.2.3", "127.255.255.255", "168.63.129.16", "169.254.0.1",
	"169.254.169.254", "169.254.170.2", "169.254.170.23", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.0.192",
	"192.0.2.1", "192.88.99.1", "192.168.0.1", "192.168.255.255", "198.18.0.1", "198.19.255.255", "198.51.100.1",
	"203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
	"::", "::1", "::2", "::127.0.0.1", "::10.0.0.1", "::8.8.8.8", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254",
	"::ffff:8.8.8.8", "::ffff:0:127.0.0.1", "::ffff:0:8.8.8.8", "64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b::8.8.8.8",
	"64:ff9b:1::1", "64:ff9b:1::a9fe:a9fe", "100::1", "2001::1", "2001:0:7f00:1::", "2001:10::1", "2001:20::1", "2001:db8::1",
	"2002:7f00:1::", "2002:a9fe:a9fe::1", "2002:0808:0808::1", "2620:4f:8000::1", "3fff::1", "4000::1", "5f00::1", "fc00::1",
	"fd00::1", "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254", "fd12:3456::1", "fe80::1", "fe80::1%eth0", "fe80::a9fe:a9fe%lo", "febf::1",
	"fec0::1", "ff00::1", "ff02::1", "ffff::1", "2a00::5efe:127.0.0.1", "2a00:1::200:5efe:10.0.0.1", "2a00:1450::1%eth0",
}

func TestAddressesThatAreNotPublicAreDenied(t *testing.T) {
	t.Parallel()
	for _, text := range deniedAddrs {
		err := egress.CheckAddr(netip.AddrPortFrom(netip.MustParseAddr(text), 443), egress.Policy{})
		require.ErrorIs(t, err, egress.ErrBlocked, text)
		require.Equal(t, "destination is not allowed", err.Error(), "one public message")
		require.Error(t, errors.Unwrap(err), "a reason for our log")
	}
	require.ErrorIs(t, egress.CheckAddr(netip.AddrPort{}, egress.Policy{}), egress.ErrBlocked)
}

func TestPublicAddressesAreAllowedOnTheirPorts(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.1", "93.184.216.34", "100.63.255.255", "100.128.0.1", "172.15.0.1", "172.32.0.1", "223.255.255.255", "2606:4700::1111", "2a00:1450:4001::1"} {
		addr := netip.MustParseAddr(text)
		for port, allowed := range map[uint16]bool{443: true, 8443: true, 80: false, 22: false, 0: false, 9000: false} {
			err := egress.CheckAddr(netip.AddrPortFrom(addr, port), egress.Policy{})
			require.Equal(t, allowed, err == nil, "%s port %d", text, port)
		}
		require.NoError(t, egress.CheckAddr(netip.AddrPortFrom(addr, 9000), egress.Policy{AllowPorts: []uint16{9000}}))
		require.NoError(t, egress.CheckAddr(netip.AddrPortFrom(addr, 80), egress.Policy{AllowHTTP: true}))
	}
}

func TestAnAllowListNeverOpensMetadata(t *testing.T) {
	t.Parallel()
	everything := []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0"), netip.MustParsePrefix("fd00::/8")}
	policy := egress.Policy{AllowPrefixes: everything, AllowLoopback: true}
	for _, text := range []string{
		"0.0.0.0", "169.254.169.254", "169.254.170.2", "168.63.129.16", "100.100.100.200", "192.0.0.192", "::", "fd00:ec2::254",
		"fd00:ec2::23", "fd20:ce::254", "fd00:42::42", "fe80::1", "fe80::1%eth0", "::ffff:169.254.169.254", "64:ff9b::169.254.169.254",
		"64:ff9b:1::169.254.169.254", "2002:a9fe:a9fe::", "::169.254.169.254", "::ffff:0:169.254.169.254",
	} {
		require.ErrorIs(t, egress.CheckAddr(netip.AddrPortFrom(netip.MustParseAddr(text), 443), policy), egress.ErrBlocked, text)
	}
	for _, text := range []string{"10.0.0.1", "127.0.0.1", "::1", "fd00::1", "192.168.1.1"} {
		require.NoError(t, egress.CheckAddr(netip.AddrPortFrom(netip.MustParseAddr(text), 443), policy), text)
	}
}

func TestNAT64IsNoTunnelToPrivateAddresses(t *testing.T) {
	t.Parallel()
	policy := egress.Policy{AllowPrefixes: []netip.Prefix{netip.MustParsePrefix("64:ff9b::/96")}}
	require.NoError(t, egress.CheckAddr(netip.MustParseAddrPort("[64:ff9b::8.8.8.8]:443"), policy))
	require.ErrorIs(t, egress.CheckAddr(netip.MustParseAddrPort("[64:ff9b::10.0.0.1]:443"), policy), egress.ErrBlocked)
	require.ErrorIs(t, egress.CheckAddr(netip.MustParseAddrPort("[64:ff9b::127.0.0.1]:443"), policy), egress.ErrBlocked)
}

func TestOurOwnAddressesAreDeniedWhateverIsAllowed(t *testing.T) {
	t.Parallel()
	policy := egress.Policy{
		AllowLoopback: true, AllowPrefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
		DenyAddrs: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:5432"), netip.MustParseAddrPort("10.0.0.9:0")},
	}
	require.Error(t, egress.CheckAddr(netip.MustParseAddrPort("127.0.0.1:5432"), policy))
	require.NoError(t, egress.CheckAddr(netip.MustParseAddrPort("127.0.0.1:5433"), policy))
	require.Error(t, egress.CheckAddr(netip.MustParseAddrPort("10.0.0.9:443"), policy))
	require.Error(t, egress.CheckAddr(netip.MustParseAddrPort("[::ffff:10.0.0.9]:443"), policy))
}

// loopbackSpellings are hosts that some parser or resolver takes for loopback, metadata or a private address.
var loopbackSpellings = []string{
	"127.0.0.1", "127.1", "127.0.1", "127.000.000.001", "0127.0.0.1", "0177.0.0.1", "0177.00.00.01", "017700000001", "0x7f.0.0.1",
	"0x7f.0x0.0x0.0x1", "0x7f000001", "0X7F000001", "0x7f.1", "2130706433", "02130706433", "127.0.0.1.", "127.0.0.1..", "127。0。0。1",
	"127．0．0．1", "１２７.0.0.1", "①②⑦.0.0.1", "⑫⑦。⓪。⓪。①", "127.0.0.1%00", "%31%32%37.0.0.1", "127%2e0%2e0%2e1", "127.0.0.1%23.example.com",
	"0", "0.0.0.0", "00.00.00.00", "0x0", "[::]", "[::1]", "[0:0:0:0:0:0:0:1]", "[0000:0000:0000:0000:0000:0000:0000:0001]", "[::ffff:127.0.0.1]",
	"[::ffff:7f00:1]", "[0:0:0:0:0:ffff:127.0.0.1]", "[::127.0.0.1]", "[::ffff:0:127.0.0.1]", "[64:ff9b::127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[2002:7f00:0001::1]",
	"[::1%25lo]", "[::1%lo]", "[fe80::1%25eth0]", "[fe80::1]", "[fd00:ec2::254]", "169.254.169.254", "0xa9fea9fe", "2852039166", "0251.0376.0251.0376",
	"169.254.43518", "[::ffff:169.254.169.254]", "[::ffff:a9fe:a9fe]", "[64:ff9b::a9fe:a9fe]", "[2002:a9fe:a9fe::]", "169.254.169.254.", "169。254。169。254",
	"localhost", "LOCALHOST", "LocalHost", "localhost.", "localhost..", "a.localhost", "ｌocalhost", "loc\u00adalhost", "ℒocalhost", "local\u200bhost",
	"10.0.0.1", "192.168.0.1", "172.16.0.1", "100.64.0.1", "8.8.8.8", "[2606:4700::1111]", "0x08080808", "1.1", "1.2.3.4.5", "999.1.1.1", "foo.0x1", "foo.1", "example.com.127",
	"user@127.0.0.1", "example.com@127.0.0.1", "example.com:443@127.0.0.1", "@127.0.0.1", ":@127.0.0.1", "127.0.0.1\\@example.com", "example.com\\.evil.test",
	"example.com#@127.0.0.1", "example.com:80#@127.0.0.1", "127.0.0.1\t", "127.0.0.1\n", "\u202e1.0.0.721", "xn--", "xn--a", "-example.com", "exa mple.com", "exa_mple.com",
	"a..b.com", ".example.com", "example.com.", "[127.0.0.1]", "[::1", "::1]", "[]", "", "*", "*.example.com", strings.Repeat("a", 64) + ".com", strings.Repeat("a.", 130) + "com",
}

func TestSpellingsOfInternalHostsAreRefusedAsURLs(t *testing.T) {
	t.Parallel()
	require.Greater(t, len(loopbackSpellings), 100)
	for _, host := range loopbackSpellings {
		for _, format := range []string{"https://%s/", "https://%s:443/x?y=z", "https://%s:8443"} {
			raw := fmt.Sprintf(format, host)
			u, err := egress.CheckURL(raw, egress.Policy{})
			require.ErrorIs(t, err, egress.ErrURL, "%q gave %v", raw, u)
		}
	}
}

func TestSpellingsOfInternalHostsNeverReachALoopbackListener(t *testing.T) {
	t.Parallel()
	trap := serveRaw(t, answer(okAnswer))
	port := portOf(t, trap.addr)
	resolver := fakeDNS(t, always("127.0.0.1")) // whatever name survives the rules leads home
	deliverer := newDeliverer(t, egress.DelivererConfig{Policy: egress.Policy{AllowHTTP: true, AllowPorts: []uint16{port}, Resolver: resolver}})
	spellings := append([]string{"hooks.example.com", "127-0-0-1.example.com", "internal", "metadata.google.internal"}, loopbackSpellings...)
	for _, host := range spellings {
		if strings.ContainsAny(host, "#\\@") {
			continue // the port would belong to another host
		}
		for _, scheme := range []string{"http", "https"} {
			result := deliverer.Do(t.Context(), attempt(t, fmt.Sprintf("%s://%s:%d/", scheme, host, port)))
			require.Equal(t, egress.Blocked, result.Class, host)
			require.Equal(t, "destination is not allowed", result.Err, host)
			require.False(t, result.Retry)
			require.Empty(t, result.Address)
		}
	}
	require.Zero(t, trap.conns.Load())
}

func TestCheckURLAcceptsAndCanonicalises(t *testing.T) {
	t.Parallel()
	internal := egress.Policy{AllowPrefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, AllowPorts: []uint16{9000}}
	dev := egress.Policy{AllowLoopback: true, AllowHTTP: true}
	cases := []struct {
		raw    string
		policy egress.Policy
		want   string
		origin string
	}{
		{"https://hooks.example.com/countersign?x=1", egress.Policy{}, "https://hooks.example.com/countersign?x=1", "https://hooks.example.com:443"},
		{"HTTPS://Hooks.Example.COM", egress.Policy{}, "https://hooks.example.com", "https://hooks.example.com:443"},
		{"https://hooks.example.com:443/", egress.Policy{}, "https://hooks.example.com:443/", "https://hooks.example.com:443"},
		{"https://hooks.example.com:8443/", egress.Policy{}, "https://hooks.example.com:8443/", "https://hooks.example.com:8443"},
		{"https://bücher.example/", egress.Policy{}, "https://xn--bcher-kva.example/", "https://xn--bcher-kva.example:443"},
		{"https://ＢÜCHER。example/", egress.Policy{}, "https://xn--bcher-kva.example/", "https://xn--bcher-kva.example:443"},
		{"https://payroll:9000/a", internal, "https://payroll:9000/a", "https://payroll:9000"},
		{"https://10.1.2.3:9000/a", internal, "https://10.1.2.3:9000/a", "https://10.1.2.3:9000"},
		{"http://localhost:41234/cb", dev, "http://localhost:41234/cb", "http://localhost:41234"},
		{"http://127.0.0.1:41234/cb", dev, "http://127.0.0.1:41234/cb", "http://127.0.0.1:41234"},
		{"http://[::1]:41234/cb", dev, "http://[::1]:41234/cb", "http://[::1]:41234"},
		{"http://[::1]/cb", dev, "http://[::1]/cb", "http://[::1]:80"},
		{"http://hooks.example.com/cb", dev, "http://hooks.example.com/cb", "http://hooks.example.com:80"},
	}
	for _, c := range cases {
		u, err := egress.CheckURL(c.raw, c.policy)
		require.NoError(t, err, c.raw)
		require.Equal(t, c.want, u.String())
		require.Equal(t, c.origin, egress.Origin(u))
	}
}

func TestCheckURLRefusesShapes(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{
		"", "hooks.example.com", "//hooks.example.com/", "/path", "http://hooks.example.com/", "ftp://hooks.example.com/", "file:///etc/passwd",
		"gopher://hooks.example.com:443/", "javascript:alert(1)", "https:hooks.example.com", "https:/hooks.example.com", "https:///hooks.example.com",
		"https://user:pw@hooks.example.com/", "https://hooks.example.com/#f", "https://hooks.example.com/#", "https://hooks.example.com:80/",
		"https://hooks.example.com:22/", "https://hooks.example.com:/", "https://hooks.example.com:0/", "https://hooks.example.com:0443/",
		"https://hooks.example.com:+443/", "https://hooks.example.com:65979/", "https://hooks.example.com:443:443/", "https://hooks.example.com/a b",
		"https://hooks.example.com/\r\nX: y", "https://hooks.example.com\\@evil.test/", " https://hooks.example.com/", "https://hooks.example.com/%zz",
		"https://hooks.example.com/" + strings.Repeat("a", 2048), "https://üüü.example/" + strings.Repeat("a", 2024), "https://" + strings.Repeat("ü", 400) + ".example/",
	} {
		_, err := egress.CheckURL(raw, egress.Policy{})
		require.ErrorIs(t, err, egress.ErrURL, "%q", raw)
		require.NotContains(t, err.Error(), "pw")
	}
	_, err := egress.CheckURL("https://countersign.example/", egress.Policy{DenyHosts: []string{"countersign.example"}})
	require.ErrorIs(t, err, egress.ErrURL)
	_, err = egress.CheckURL("http://127.0.0.1:1/", egress.Policy{AllowLoopback: true})
	require.ErrorIs(t, err, egress.ErrURL, "loopback does not imply http")
	_, err = egress.CheckURL("http://[::ffff:127.0.0.1]:1/", egress.Policy{AllowLoopback: true, AllowHTTP: true})
	require.ErrorIs(t, err, egress.ErrURL, "one spelling of loopback is enough")
	_, err = egress.CheckURL("https://169.254.169.254/", egress.Policy{AllowPrefixes: []netip.Prefix{netip.MustParsePrefix("169.254.0.0/16")}})
	require.ErrorIs(t, err, egress.ErrURL)
}

func TestOriginComparesPartsNotPrefixes(t *testing.T) {
	t.Parallel()
	allowed, err := egress.CheckURL("https://payroll.example.com", egress.Policy{})
	require.NoError(t, err)
	for raw, same := range map[string]bool{
		"https://payroll.example.com:443/x": true, "https://PAYROLL.example.com/x": true, "https://payroll.example.com.evil.test/": false,
		"https://payroll.example.comevil.test/": false, "https://payroll.example.com:8443/": false, "https://xpayroll.example.com/": false,
	} {
		u, err := egress.CheckURL(raw, egress.Policy{})
		require.NoError(t, err)
		require.Equal(t, same, egress.Origin(u) == egress.Origin(allowed), raw)
	}
}

func TestARebindingNameIsJudgedAtEveryDial(t *testing.T) {
	t.Parallel()
	vetted := netip.MustParseAddr("127.0.0.2")
	server, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.2:0")
	require.NoError(t, err)
	served := make(chan struct{})
	go func() {
		defer close(served)
		conn, err := server.Accept()
		if err != nil {
			return
		}
		_, _ = readRaw(bufio.NewReader(conn))
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		_ = conn.Close()
	}()
	t.Cleanup(func() { _ = server.Close(); <-served })
	port := portOf(t, server.Addr().String())
	resolver := fakeDNS(t, func(_ string, before int) []netip.Addr {
		if before == 0 {
			return []netip.Addr{vetted}
		}
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}
	})
	deliverer := newDeliverer(t, egress.DelivererConfig{Policy: egress.Policy{
		AllowHTTP: true, AllowPorts: []uint16{port}, AllowPrefixes: []netip.Prefix{netip.PrefixFrom(vetted, 32)}, Resolver: resolver,
	}})
	target := fmt.Sprintf("http://rebind.example:%d/", port)
	require.Equal(t, egress.Delivered, deliverer.Do(t.Context(), attempt(t, target)).Class)
	require.Equal(t, egress.Blocked, deliverer.Do(t.Context(), attempt(t, target)).Class)
}

func TestMixedAnswersReachOnlyWhatIsAllowed(t *testing.T) {
	t.Parallel()
	trap := serveRaw(t, answer(okAnswer)) // on 127.0.0.1, the forbidden one of the two
	port := portOf(t, trap.addr)
	for _, order := range [][]string{{"127.0.0.1", "127.0.0.2"}, {"127.0.0.2", "127.0.0.1"}} {
		deliverer := newDeliverer(t, egress.DelivererConfig{Policy: egress.Policy{
			AllowHTTP: true, AllowPorts: []uint16{port}, AllowPrefixes: []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")},
			Resolver: fakeDNS(t, always(order...)),
		}})
		result := deliverer.Do(t.Context(), attempt(t, fmt.Sprintf("http://mixed.example:%d/", port)))
		require.Equal(t, egress.Blocked, result.Class, "nobody listens on the allowed address, so the refusal is what remains")
	}
	require.Zero(t, trap.conns.Load())
}

func TestALookupThatFailsFirstDoesNotOpenTheSecond(t *testing.T) {
	t.Parallel()
	trap := serveRaw(t, answer(okAnswer))
	port := portOf(t, trap.addr)
	resolver := fakeDNS(t, func(_ string, before int) []netip.Addr {
		if before == 0 {
			return nil
		}
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}
	})
	deliverer := newDeliverer(t, egress.DelivererConfig{Policy: egress.Policy{AllowHTTP: true, AllowPorts: []uint16{port}, Resolver: resolver}})
	target := fmt.Sprintf("http://flaky.example:%d/", port)
	first := deliverer.Do(t.Context(), attempt(t, target))
	require.Equal(t, egress.Failed, first.Class)
	require.True(t, first.Retry)
	require.Equal(t, egress.ErrorDNS, first.ErrorClass)
	require.Equal(t, egress.Blocked, deliverer.Do(t.Context(), attempt(t, target)).Class)
	require.Zero(t, trap.conns.Load())
}

func TestNoProxyFromTheEnvironmentIsAsked(t *testing.T) {
	t.Parallel()
	server := serveRaw(t, answer(okAnswer))
	port := portOf(t, server.addr)
	policy := egress.Policy{AllowHTTP: true, AllowLoopback: true, AllowPorts: []uint16{port}, Resolver: fakeDNS(t, always("127.0.0.1"))}
	deliverer := newDeliverer(t, egress.DelivererConfig{Policy: policy})
	result := deliverer.Do(t.Context(), attempt(t, fmt.Sprintf("http://hooks.example:%d/", port)))
	require.Equal(t, egress.Delivered, result.Class)
	upstream := egress.Upstream{BaseURL: server.url("")}
	upstream.BaseURL.Host = fmt.Sprintf("upstream.example:%d", port)
	require.Equal(t, egress.Answered, newExecutor(t, policy).Do(t.Context(), upstream, get("/"), nil).Kind)
	require.Zero(t, proxyHits.Load())
	require.Nil(t, egress.NewTransport(policy).Proxy)
}
