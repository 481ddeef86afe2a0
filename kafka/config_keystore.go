package kafka

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"strings"
)

// notPEM says what a file without PEM is, and which command makes PEM of it.
func notPEM(data []byte) string {
	switch {
	case bytes.HasPrefix(data, []byte{0xfe, 0xed, 0xfe, 0xed}), bytes.HasPrefix(data, []byte{0xce, 0xce, 0xce, 0xce}):
		return "is a Java keystore (JKS); want PEM: keytool -importkeystore -srckeystore store.jks " +
			"-destkeystore store.p12 -deststoretype PKCS12, and then openssl pkcs12 -in store.p12 -nodes -out store.pem"
	case pkcs12(data):
		return "is a PKCS #12 store; want PEM: openssl pkcs12 -in store.p12 -nodes -out store.pem"
	case derCertificate(data):
		return "is a certificate in DER; want PEM: openssl x509 -inform der -in cert.der -out cert.pem"
	case derKey(data):
		return "is a private key in DER; want PEM: openssl pkey -inform der -in key.der -out key.pem"
	}
	return "is not PEM"
}

// pkcs12 reports whether data begins as RFC 7292's PFX does: a sequence of the
// integer 3 and another sequence, of definite length or, as BER allows, not.
func pkcs12(data []byte) bool {
	content, ok := sequence(data)
	return ok && bytes.HasPrefix(content, []byte{0x02, 0x01, 0x03, 0x30})
}

// derKey reports whether data begins as a private key does, in PKCS #8, PKCS #1
// or SEC 1: a sequence that begins with its version, 0 or 1. An encrypted one
// begins with a sequence that names its algorithm.
func derKey(data []byte) bool {
	content, ok := sequence(data)
	return ok && (bytes.HasPrefix(content, []byte{0x02, 0x01, 0x00}) || bytes.HasPrefix(content, []byte{0x02, 0x01, 0x01}))
}

func derCertificate(data []byte) bool {
	_, err := x509.ParseCertificate(data)
	return err == nil
}

// sequence returns what follows the header of an ASN.1 sequence.
func sequence(data []byte) (content []byte, ok bool) {
	const tag, long = 0x30, 0x80
	if len(data) < 2 || data[0] != tag {
		return nil, false
	}
	header := 2
	if data[1] >= long {
		header += int(data[1] &^ long)
	}
	if len(data) < header {
		return nil, false
	}
	return data[header:], true
}

// unusable says what a PEM block is that package crypto/tls makes nothing of,
// and what to do about it; "" is one that it may like.
func unusable(b *pem.Block) string {
	switch {
	case b.Type == "ENCRYPTED PRIVATE KEY", strings.Contains(b.Headers["Proc-Type"], "ENCRYPTED"):
		return "holds an encrypted private key, and no field takes its password; decrypt it: " +
			"openssl pkey -in encrypted.key -out plain.key; or decrypt it in the program and set Config.Certificates"
	case b.Type == "OPENSSH PRIVATE KEY":
		return "holds a key of OpenSSH; want PKCS #8: ssh-keygen -p -m pkcs8 -f key"
	case b.Type == "PKCS7":
		return "holds PKCS #7; want certificates: openssl pkcs7 -print_certs -in certs.p7b -out certs.pem"
	case b.Type == "CERTIFICATE REQUEST", b.Type == "NEW CERTIFICATE REQUEST":
		return "holds a certificate request; want the certificate that an authority issued for it"
	case b.Type == "TRUSTED CERTIFICATE":
		return "holds a certificate in OpenSSL's own form; want PEM: openssl x509 -in trusted.pem -out cert.pem"
	}
	return ""
}
