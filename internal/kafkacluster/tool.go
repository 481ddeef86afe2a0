package kafkacluster

import (
	"context"
	"fmt"
	"io"
)

// Tool runs one of Kafka's own programs, given by its main class, to its end and
// returns its standard output. Most of them want the flag --bootstrap-server:
//
//	org.apache.kafka.tools.TopicCommand
//	org.apache.kafka.tools.ConsoleProducer
//	org.apache.kafka.tools.consumer.ConsoleConsumer
//	org.apache.kafka.tools.consumer.group.ConsumerGroupCommand
//	kafka.admin.ConfigCommand
//
// Each takes about a second. The error holds what the program wrote to standard
// error. Some report a failure only there and end well all the same: after a
// ConsoleProducer, look at [Cluster.EndOffsets].
func (c *Cluster) Tool(ctx context.Context, mainClass string, args ...string) (string, error) {
	return c.ToolInput(ctx, nil, mainClass, args...)
}

// ToolInput is Tool with a standard input.
func (c *Cluster) ToolInput(ctx context.Context, stdin io.Reader, mainClass string, args ...string) (string, error) {
	java := c.java
	if c.External() {
		var err error
		if java, err = findJava(ctx, c.cfg.Version); err != nil {
			return "", err
		}
	}
	cmd := java.command(smallHeap, append([]string{mainClass}, args...)...)
	cmd.Stdin = stdin
	out, err := run(ctx, cmd)
	if err != nil {
		return out, fmt.Errorf("kafkacluster: %s: %w", mainClass, err)
	}
	return out, nil
}
