//go:build !race

package otelkafka

const raceEnabled = false
