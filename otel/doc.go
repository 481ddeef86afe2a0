// Package otelkafka traces and measures what package kafka does.
package otelkafka
