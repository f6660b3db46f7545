# frozen_string_literal: true

require "socket"
require_relative "answers"
require_relative "judge"

module Cases
  # Sends cases to a server, many at a time, and tells what came of each.
  class Client
    AT_ONCE = 32
    SILENCE_SECONDS = 0.7 # after bytes came
    NOTHING_SECONDS = 1.5 # where none came
    READ_BYTES = 65_536

    Result = Data.define(:id, :expect, :exempt, :answers, :closed, :met) do
      def to_s
        came = answers.empty? ? "nothing" : answers.map(&:status).join(" ")
        "#{id}: expected #{expect}, came #{came}, #{closed ? 'closed' : 'open'}"
      end
    end

    def initialize(port)
      @port = port
    end

    # The results, in the order of the cases.
    def run(cases)
      waiting = Queue.new(cases.each_with_index.to_a).close
      results = Array.new(cases.size)
      Array.new(AT_ONCE) do
        Thread.new do
          while (a_case, index = waiting.pop)
            results[index] = send_case(a_case)
          end
        end
      end.each(&:join)
      results
    end

    private

    def send_case(a_case)
      raw = a_case["raw"].encode("ISO-8859-1").b
      bytes, closed = exchange(raw)
      answers = Answers.parse(bytes, to_head: raw.start_with?("HEAD "))
      Result.new(id: a_case["id"], expect: a_case["expect"], exempt: a_case.key?("exempt"),
                 answers:, closed:, met: Judge.met?(a_case, answers, closed))
    end

    # What came, and whether the server closed.
    def exchange(raw)
      bytes = "".b
      Socket.tcp("127.0.0.1", @port, connect_timeout: NOTHING_SECONDS) do |socket|
        socket.write(raw)
        bytes << socket.readpartial(READ_BYTES) while
          socket.wait_readable(bytes.empty? ? NOTHING_SECONDS : SILENCE_SECONDS)
      end
      [bytes, false]
    rescue EOFError, SystemCallError
      [bytes, true]
    end
  end
end
