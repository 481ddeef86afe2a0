// Package managed has the configurations of docs/managed-kafkas.md, each of which
// its test registers. Secrets come from environment variables.
package managed

import (
	"context"
	"os"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/aws/aws-msk-iam-sasl-signer-go/signer"
	"golang.org/x/oauth2"

	"github.com/aarontianqx/gopkg/kafka"
)

func mskScram() kafka.ConsumerConfig {
	return kafka.ConsumerConfig{
		JobName: "orders", Topic: "orders", ConsumerGroup: "shop",
		BootstrapServers: "b-1.shop.abc123.c2.kafka.eu-central-1.amazonaws.com:9096",
		TLS:              &kafka.TLSConfig{},
		SASL: &kafka.SASLConfig{
			Mechanism: kafka.SASLScramSHA512,
			User:      "shop",
			Password:  kafka.Secret(os.Getenv("KAFKA_PASSWORD")),
		},
	}
}

func mskIAM() kafka.ConsumerConfig {
	return kafka.ConsumerConfig{
		JobName: "orders", Topic: "orders", ConsumerGroup: "shop",
		BootstrapServers: "b-1.shop.abc123.c2.kafka.eu-central-1.amazonaws.com:9098",
		TLS:              &kafka.TLSConfig{},
		SASL: &kafka.SASLConfig{
			Mechanism: kafka.SASLOAuthBearer,
			TokenSource: func(ctx context.Context) (kafka.Token, error) {
				token, _, err := signer.GenerateAuthToken(ctx, "eu-central-1")
				return kafka.Token{Value: kafka.Secret(token)}, err
			},
		},
	}
}

func confluentKey() kafka.ConsumerConfig {
	return kafka.ConsumerConfig{
		JobName: "orders", Topic: "orders", ConsumerGroup: "shop",
		BootstrapServers: "pkc-12345.europe-west3.gcp.confluent.cloud:9092",
		TLS:              &kafka.TLSConfig{},
		SASL: &kafka.SASLConfig{
			Mechanism: kafka.SASLPlain,
			User:      os.Getenv("KAFKA_API_KEY"),
			Password:  kafka.Secret(os.Getenv("KAFKA_API_SECRET")),
		},
	}
}

// tokens caches what it returns, for example
// clientcredentials.Config{...}.TokenSource(context.Background()).
func confluentOAuth(tokens oauth2.TokenSource) kafka.ConsumerConfig {
	return kafka.ConsumerConfig{
		JobName: "orders", Topic: "orders", ConsumerGroup: "shop",
		BootstrapServers: "pkc-12345.europe-west3.gcp.confluent.cloud:9092",
		TLS:              &kafka.TLSConfig{},
		SASL: &kafka.SASLConfig{
			Mechanism: kafka.SASLOAuthBearer,
			TokenSource: func(context.Context) (kafka.Token, error) {
				token, err := tokens.Token()
				if err != nil {
					return kafka.Token{}, err
				}
				return kafka.Token{
					Value:      kafka.Secret(token.AccessToken),
					Extensions: map[string]string{"logicalCluster": "lkc-12345", "identityPoolId": "pool-12345"},
				}, nil
			},
		},
	}
}

func aivenCertificate() kafka.ConsumerConfig {
	return kafka.ConsumerConfig{
		JobName: "orders", Topic: "orders", ConsumerGroup: "shop",
		BootstrapServers: "shop-project.aivencloud.com:12835",
		TLS: &kafka.TLSConfig{ // each is a path, or PEM text
			CAFile:   os.Getenv("KAFKA_CA"),
			CertFile: os.Getenv("KAFKA_CERT"),
			KeyFile:  os.Getenv("KAFKA_KEY"),
		},
	}
}

func aivenScram() kafka.ConsumerConfig {
	return kafka.ConsumerConfig{
		JobName: "orders", Topic: "orders", ConsumerGroup: "shop",
		BootstrapServers: "shop-project.aivencloud.com:12846",
		TLS:              &kafka.TLSConfig{CAFile: os.Getenv("KAFKA_CA")},
		SASL: &kafka.SASLConfig{
			Mechanism: kafka.SASLScramSHA512,
			User:      "shop",
			Password:  kafka.Secret(os.Getenv("KAFKA_PASSWORD")),
		},
	}
}

func eventHubsKey() kafka.ConsumerConfig {
	return kafka.ConsumerConfig{
		JobName: "orders", Topic: "orders", ConsumerGroup: "shop",
		BootstrapServers: "shop.servicebus.windows.net:9093",
		TLS:              &kafka.TLSConfig{},
		SASL: &kafka.SASLConfig{
			Mechanism: kafka.SASLPlain,
			User:      "$ConnectionString", // this very text
			Password:  kafka.Secret(os.Getenv("EVENTHUBS_CONNECTION_STRING")),
		},
	}
}

// credential is for example azidentity.NewDefaultAzureCredential(nil).
func eventHubsEntra(credential azcore.TokenCredential) kafka.ConsumerConfig {
	return kafka.ConsumerConfig{
		JobName: "orders", Topic: "orders", ConsumerGroup: "shop",
		BootstrapServers: "shop.servicebus.windows.net:9093",
		TLS:              &kafka.TLSConfig{},
		SASL: &kafka.SASLConfig{
			Mechanism: kafka.SASLOAuthBearer,
			TokenSource: func(ctx context.Context) (kafka.Token, error) {
				token, err := credential.GetToken(ctx, policy.TokenRequestOptions{
					Scopes: []string{"https://shop.servicebus.windows.net/.default"},
				})
				return kafka.Token{Value: kafka.Secret(token.Token)}, err
			},
		},
	}
}

func redpandaScram() kafka.ConsumerConfig {
	return kafka.ConsumerConfig{
		JobName: "orders", Topic: "orders", ConsumerGroup: "shop",
		BootstrapServers: "seed-abc123.cloud.redpanda.com:9092",
		TLS:              &kafka.TLSConfig{},
		SASL: &kafka.SASLConfig{
			Mechanism: kafka.SASLScramSHA256,
			User:      "shop",
			Password:  kafka.Secret(os.Getenv("KAFKA_PASSWORD")),
		},
	}
}
