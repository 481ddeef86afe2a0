package managed

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"

	"github.com/aarontianqx/gopkg/driver/sarama"
	"github.com/aarontianqx/gopkg/kafka"
)

// Each recipe is accepted by the core and by the production driver, for a consumer
// and for a producer, and encrypts. No connection is opened.
func TestRecipesAreAccepted(t *testing.T) {
	setSecrets(t)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, recipe := range recipes() {
		t.Run(name, func(t *testing.T) {
			m := kafka.New(sarama.Driver{})
			cfg := recipe()
			handle := func(context.Context, *kafka.Message) error { return nil }
			require.NoError(t, m.RegisterConsumer(t.Context(), kafka.NewConsumer(cfg, handle)))
			_, err := m.RegisterProducer(ended, kafka.ProducerConfig{BootstrapServers: cfg.BootstrapServers, TLS: cfg.TLS, SASL: cfg.SASL})
			require.ErrorIs(t, err, context.Canceled, "the only complaint is the context")
			var field *kafka.FieldError
			require.NotErrorAs(t, err, &field)
			require.NotNil(t, cfg.TLS)
			assert.False(t, cfg.TLS.InsecureSkipVerify)
			if cfg.SASL != nil {
				assert.False(t, cfg.SASL.AllowPlaintext)
			}
			assert.NotContains(t, fmt.Sprintf("%+v", cfg), secret)
			require.NoError(t, m.Shutdown(t.Context()))
		})
	}
}

// Without its secret a recipe is refused.
func TestRecipesWithoutSecretsAreRefused(t *testing.T) {
	for _, name := range secrets {
		t.Setenv(name, "")
	}
	for _, name := range []string{"mskScram", "confluentKey", "aivenScram", "eventHubsKey", "redpandaScram"} {
		cfg := recipes()[name]()
		err := kafka.New(sarama.Driver{}).RegisterConsumer(t.Context(),
			kafka.NewConsumer(cfg, func(context.Context, *kafka.Message) error { return nil }))
		assert.ErrorContains(t, err, "SASL.Password: is empty", name)
	}
}

// The token sources return the token of the service's own library.
func TestTokenSources(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "id")
	t.Setenv("AWS_SECRET_ACCESS_KEY", secret)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	token, err := mskIAM().SASL.TokenSource(t.Context())
	require.NoError(t, err)
	assert.Greater(t, len(token.Value), 100, "a signed URL")
	token, err = confluentOAuth(staticTokens{}).SASL.TokenSource(t.Context())
	require.NoError(t, err)
	assert.Equal(t, kafka.Token{Value: secret, Extensions: map[string]string{"logicalCluster": "lkc-12345", "identityPoolId": "pool-12345"}}, token)
	token, err = eventHubsEntra(staticCredential{}).SASL.TokenSource(t.Context())
	require.NoError(t, err)
	assert.Equal(t, kafka.Token{Value: secret}, token)
}

const secret = "not-to-be-shown"

var secrets = []string{"KAFKA_PASSWORD", "KAFKA_API_KEY", "KAFKA_API_SECRET", "EVENTHUBS_CONNECTION_STRING", "KAFKA_CA", "KAFKA_CERT", "KAFKA_KEY"}

func recipes() map[string]func() kafka.ConsumerConfig {
	return map[string]func() kafka.ConsumerConfig{
		"mskScram":         mskScram,
		"mskIAM":           mskIAM,
		"confluentKey":     confluentKey,
		"confluentOAuth":   func() kafka.ConsumerConfig { return confluentOAuth(staticTokens{}) },
		"aivenCertificate": aivenCertificate,
		"aivenScram":       aivenScram,
		"eventHubsKey":     eventHubsKey,
		"eventHubsEntra":   func() kafka.ConsumerConfig { return eventHubsEntra(staticCredential{}) },
		"redpandaScram":    redpandaScram,
	}
}

// setSecrets gives each variable that the recipes read a value that fits.
func setSecrets(t *testing.T) {
	t.Helper()
	for _, name := range secrets {
		t.Setenv(name, secret)
	}
	t.Setenv("KAFKA_API_KEY", "key")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	t.Setenv("KAFKA_CA", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})))
	t.Setenv("KAFKA_CERT", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})))
	t.Setenv("KAFKA_KEY", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
}

type staticTokens struct{}

func (staticTokens) Token() (*oauth2.Token, error) { return &oauth2.Token{AccessToken: secret}, nil }

type staticCredential struct{}

func (staticCredential) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: secret}, nil
}
