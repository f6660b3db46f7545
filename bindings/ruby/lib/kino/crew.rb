# frozen_string_literal: true

module Kino
  class Native::Server # rubocop:disable Style/ClassAndModuleChildren -- it is defined in C
    # How long a worker may take to begin.
    BEGIN_SECONDS = 10

    # Wait until so many workers have begun. They begin one at a time, each after the one before is
    # known to sleep or to work: a Ruby thread that goes to sleep while others do may never be woken.
    #
    # @yieldreturn [Boolean] whether to give up
    # @return [void]
    def await_begun(count)
      deadline = Process.clock_gettime(Process::CLOCK_MONOTONIC) + BEGIN_SECONDS
      until begun?(count) || yield
        if Process.clock_gettime(Process::CLOCK_MONOTONIC) > deadline
          raise Error, "a worker did not begin within #{BEGIN_SECONDS} s"
        end
      end
    end
  end

  # The workers of a server. Each seat is a thread of the main Ractor: it serves itself, or it waits
  # for the Ractor that does. Where one dies, another takes the seat.
  class Crew
    # Seconds between a worker that died young and the next, and at most between attempts.
    FIRST_PAUSE = 0.1
    LONGEST_PAUSE = 5

    # What a Ractor says that ends because there is nothing more to serve.
    DRAINED = "drained"

    # count: of the server's begun workers, when those of this seat have begun; over: they have ended;
    # error: why they did not begin.
    Seat = Struct.new(:count, :over, :error, keyword_init: true)
    private_constant :Seat

    # @param ractors [Boolean] whether a worker is a Ractor, with threads of its own; else each
    #   thread is a worker
    def initialize(native, app, workers:, threads:, ractors:, inline:)
      @native = native
      @app = app
      @inline = inline
      @ractors = ractors
      @seats = ractors ? workers : workers * threads
      @threads_each = ractors ? threads : 1
      @threads = []
      @turn = Mutex.new # one begins at a time
    end

    # @return [void] when all of them are there
    def start
      @seats.times { fill_seat }
    end

    # @param seconds [Numeric, nil]
    # @return [Boolean] whether all have ended
    def join(seconds)
      deadline = seconds && (now + seconds)
      while (thread = @threads.first)
        return false unless thread.join(deadline && [deadline - now, 0].max)

        @threads.delete(thread)
      end
      true
    end

    private

    def now = Process.clock_gettime(Process::CLOCK_MONOTONIC)

    def fill_seat
      @turn.synchronize do
        seat = Seat.new(count: @native.begun + @threads_each)
        @threads << Thread.new { occupy(seat) }
        @native.await_begun(seat.count) { seat.over }
        raise seat.error if seat.error
      end
    end

    def occupy(seat)
      Thread.current.report_on_exception = false
      born = now
      drained = @ractors ? serve_in_ractor : Worker.run(@native, @app, inline: @inline)
    rescue Exception => e # rubocop:disable Lint/RescueException -- a seat is not left empty
      error = e
    ensure
      # The app may have killed this thread, so no place but this is sure to be reached.
      leave(seat, error || Error.new("a worker was killed"), born) unless drained
      seat.over = true
    end

    def leave(seat, error, born)
      # While it has not begun, no other does; and who began it will say so.
      return seat.error = error if @native.begun < seat.count

      warn "kino: a worker died and is replaced: #{error.message}"
      replace(now - born < FIRST_PAUSE ? FIRST_PAUSE : 0)
    end

    def replace(pause)
      sleep pause
      fill_seat
    rescue StandardError => e
      warn "kino: a worker cannot be replaced yet: #{e.message}"
      pause = (pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE)
      retry
    end

    # The Ractor tells its end on a pipe. Waiting for a Ractor itself differs with Ruby's versions, and
    # before 4.0 only one thread of a Ractor can wait for others.
    def serve_in_ractor
      reader, writer = IO.pipe
      writer.autoclose = false # the Ractor's from here on
      ractor = start_ractor(writer.fileno)
      ending = reader.gets(chomp: true)
      raise Error, ending unless ending == DRAINED

      ractor # kept until here
    ensure
      reader&.close
    end

    def start_ractor(fileno)
      experimental = Warning[:experimental]
      Warning[:experimental] = false
      Ractor.new(@native, @app, @threads_each, @inline, fileno) do |native, app, threads, inline, fd|
        Thread.current.report_on_exception = false
        ending = "a thread of it was killed"
        ending = DRAINED if Worker.run_together(native, app, threads:, inline:)
      rescue Exception => e # rubocop:disable Lint/RescueException -- it is told instead
        ending = "#{e.message.lines.first&.chomp} (#{e.class})"
      ensure
        IO.open(fd, "w") { _1.puts(ending) }
      end
    ensure
      Warning[:experimental] = experimental
    end
  end
end
