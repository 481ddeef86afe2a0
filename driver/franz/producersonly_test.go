package franz

import (
	"context"
	"errors"

	"github.com/aarontianqx/gopkg/driver"
)

// producersOnly is the driver for cases that open no consumer.
type producersOnly struct{ Driver }

func (producersOnly) OpenConsumer(context.Context, driver.ConsumerConfig) (driver.Consumer, error) {
	return nil, errors.New("this case opens producers only")
}
