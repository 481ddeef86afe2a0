// Package benchmarks holds comparisons with other clients, in a module of its
// own so that a program that uses the library does not download them.
//
//	go test -bench . -benchmem -count 6
//
// runs raw Sarama, this library on Sarama, raw franz-go and this library on franz-go
// side by side, against a broker that speaks the protocol and makes up what is read,
// in a process of its own, so that allocations and CPU are the client's alone.
//
//	go test -run TracingAllocates -bench Tracing -benchmem -v
//
// compares package otelkafka with the instrumentations of franz-go and Sarama.
//
//	go run ./compare -o ../BENCHMARKS.md
//
// compares this library on both with raw Sarama, raw franz-go and watermill-kafka on a real
// Apache Kafka.
package benchmarks
