package main

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"countersign/api"
	"countersign/jobs"
)

func TestAnEndpointThatHasJustLeftTheConfigurationIsAConflictAndNoFault(t *testing.T) {
	t.Parallel()
	require.ErrorIs(t, endpointError(fmt.Errorf("verify: %w", jobs.ErrNotConfigured)), api.ErrEndpointGone)
	require.ErrorIs(t, endpointError(fmt.Errorf("test: %w", jobs.ErrNotVerified)), api.ErrEndpointUnverified)
	other := errors.New("anything else")
	require.Equal(t, other, endpointError(other))
	require.NoError(t, endpointError(nil))
}
