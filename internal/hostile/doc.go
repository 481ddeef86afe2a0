// Command hostile shows what a broken or hostile peer can do to a program that uses
// this library. Each row of its table is one attack on a consumer and, where it
// matters, a producer. They run in a process of their own, beside an innocent
// consumer and an innocent producer whose broker is healthy.
//
//	go run ./internal/hostile            every row
//	go run ./internal/hostile -short     those of CI, less than a minute
//	go run ./internal/hostile -row H2,H6 some
//	go run ./internal/hostile -real      H1 and H5 on a real Kafka, too
//	go run ./internal/hostile -driver franz
//
// A row passes when the process lives, stays below 1 GiB of resident memory with
// Go's own limit off, asks the hostile peer no more often than the row allows, shows
// the reason by its own code, does not disturb the innocent, and shuts down within
// its bound with no goroutine left. The exit code is 1 when a row has failed.
package main
