# frozen_string_literal: true

module Soak
  # The resident memory of a server over time, and whether it stayed where it was after a minute.
  class Memory
    SAMPLE_SECONDS = 5
    SETTLED_SECONDS = 60
    TOLERANCE = 0.05

    # clock: called, gives the seconds since the load began. rss: called, gives bytes.
    def initialize(clock, rss)
      @clock = clock
      @rss = rss
      @samples = {}
      @next = 0
    end

    def sample
      return if @clock.call < @next

      @next = @clock.call + SAMPLE_SECONDS
      @samples[@clock.call] = @rss.call
    end

    # The sample that ended the first minute, then all later ones; empty after a shorter run.
    def settled = @samples.filter_map { |time, bytes| bytes if time >= SETTLED_SECONDS }

    def steady?
      first = settled.first
      settled.all? { (_1 - first).abs <= first * TOLERANCE }
    end

    def to_s
      return "not judged in less than #{SETTLED_SECONDS} s and two samples" if settled.size < 2

      first, *later = settled
      low, high = later.minmax.map { 100.0 * (_1 - first) / first }
      format("%.1f MB after a minute, then %+.1f %% to %+.1f %%", first / 1e6, low, high)
    end
  end
end
