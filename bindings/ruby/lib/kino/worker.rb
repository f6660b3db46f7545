# frozen_string_literal: true

module Kino
  # Takes requests and answers them, on one thread.
  class Worker < Native::Worker
    # Requests handled by one call of {#serve}: YJIT compiles a method that returns, but not a loop
    # that never does.
    BATCH = 64

    # What is the same in every env, and room for the rest.
    BASE_ENV = Ractor.make_shareable(
      {
        "REQUEST_METHOD" => "", "SCRIPT_NAME" => "", "PATH_INFO" => "", "QUERY_STRING" => "",
        "SERVER_NAME" => "", "SERVER_PORT" => "", "SERVER_PROTOCOL" => "", "REMOTE_ADDR" => "",
        "REMOTE_PORT" => "", "rack.url_scheme" => "http", "rack.input" => Input::EMPTY,
        "rack.errors" => ErrorStream::STDERR
      }
    )

    class << self
      # Serve on the calling thread until the server is drained.
      #
      # @param native [Native::Server]
      # @param inline [Boolean] whether the worker drives a loop of its own
      # @param gate [Integer] how many workers must have begun before this one takes requests
      # @yieldparam worker [Worker] before it serves
      # @return [Boolean] whether the server is drained; else the worker was retired
      def run(native, app, inline:, gate: 0)
        worker = new(native, BASE_ENV, inline && migrates?)
        yield worker if block_given?
        nil until gate.zero? || worker.begin?(gate) || worker.retired?
        worker.run(app)
      ensure
        worker&.close
      end

      # Serve from several threads of the calling Ractor. Where one of them ends all do, so that the
      # Ractor can be replaced as a whole. None takes requests before all are there: a thread that is
      # made while another of its Ractor wakes up may never run.
      #
      # @return [Boolean] as {run}
      def run_together(native, app, threads:, inline:)
        return run(native, app, inline:) if threads == 1

        begun = native.begun
        workers = []
        members = (1..threads).map do |number|
          member = start_member(workers) do
            run(native, app, inline:, gate: begun + threads) { workers << _1 }
          end
          native.await_begun(begun + number) { !member.alive? }
          member
        end
        members.map(&:value).all?
      end

      private

      def start_member(workers)
        Thread.new do
          Thread.current.report_on_exception = false
          drained = yield
        ensure
          workers.each(&:retire) unless drained
        end
      end

      # Whether the calls of this thread may come from several native ones; it is pinned where that
      # can be. Ruby 3.3 cannot: it has native threads in the main Ractor alone.
      def migrates?
        !Native.pin_thread && (Ractor.current != Ractor.main || ENV["RUBY_MN_THREADS"] == "1")
      end
    end

    # Serve until there is nothing more to serve.
    #
    # @return [Boolean] as {Worker.run}
    def run(app)
      env = nil
      env = serve(app, env) until env == false
      !retired?
    end

    private

    # Handle a batch of requests, beginning with `env`, or else with one that is to be taken.
    #
    # @return [Hash, nil, false] the env to go on with; false when no more will come
    def serve(app, env)
      env ||= take
      return false unless env

      left = BATCH
      while env && left.positive?
        left -= 1
        env = respond(app.call(env))
      end
      env
    rescue Kino::Error
      raise # not of the app: this worker cannot go on
    rescue Exception => e # rubocop:disable Lint/RescueException -- whatever it is, others wait
      refuse
      report(e, env)
      nil
    end

    def report(error, env)
      errors = env&.fetch("rack.errors", nil) || ErrorStream::STDERR
      errors.write("#{error.full_message(highlight: false)}\n")
      errors.flush
    rescue StandardError
      nil # there is nobody left to tell
    end
  end
end
