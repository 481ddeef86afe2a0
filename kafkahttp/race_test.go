//go:build race

package kafkahttp

const race = true
